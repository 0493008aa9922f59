"""Prompts of a session as JSON, with which work on an image can go on later.

    {"format": "sam2_3dmed prompts", "version": 1, "shape": [20, 512, 512], "spacing": [5.0, 0.8, 0.8],
     "objects": [{"object": 1, "name": "liver", "colour": "#c0392b", "protected": false, "start": "eJx...",
                  "slices": [{"axis": 0, "slice": 12, "points": [[12, 210, 143]], "labels": [1],
                              "box": [[12, 180, 90], [12, 300, 260]]},
                             {"axis": 0, "slice": 15, "mask": "eJx..."}]}]}

Coordinates are voxels, and shape and spacing (mm) those of the image, in the order z, y, x. A mask is the base64 of
zlib's compression of its bits in C order, eight in a byte with the first one highest: of the image's shape for a start,
of the slice's two axes in the array's order for a slice. Name, colour, protection, start, points, box and mask may be
left out.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.images.volume import by
from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.planes import Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.results import SavedObject
from nnunetv2_sam2_3dmed.interactive.tracks import Key, PromptPlace, Track

FORMAT, VERSION = "sam2_3dmed prompts", 1
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def as_json(
    objects: Objects,
    axes: Sequence[Planes],
    volume: Volume,
    protected: Sequence[int] = (),
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
) -> str:
    """Write the prompts and starts of objects as JSON.

    Args:
        objects: of a session.
        axes: the slices of the image along each axis.
        volume: the image.
        protected: numbers of objects.
        names: by object.
        colours: by object, "#rrggbb".

    Raises:
        PromptError: a colour is written in another way.
    """
    entries = []
    for object_id in objects.ids:
        entry: dict[str, Any] = {"object": object_id}
        for name, given in (("name", names or {}), ("colour", colours or {})):
            if object_id in given:
                entry[name] = given[object_id]
        _check_colour(object_id, entry.get("colour"))
        entry["protected"] = object_id in protected
        if object_id in objects.starts:
            entry["start"] = packed(objects.starts[object_id])
        entry["slices"] = [
            _slice_entry(axes[key.axis], index, prompt, volume.shape)
            for key in objects.keys(object_id)
            for index, prompt in sorted(objects.tracks[key].prompts.items())
        ]
        entries.append(entry)
    image = {"shape": list(volume.shape), "spacing": list(map(float, volume.spacing))}
    return json.dumps({"format": FORMAT, "version": VERSION, **image, "objects": entries})


def _slice_entry(slices: Planes, seen: int, prompt: SlicePrompt, shape: tuple[int, int, int]) -> dict[str, Any]:
    def voxels(rows_columns: np.ndarray) -> list[list[float]]:
        places = np.column_stack([np.full(len(rows_columns), seen), rows_columns])
        return slices.view.points_back(places, shape).tolist()

    entry: dict[str, Any] = {"axis": slices.axis, "slice": slices.turned(seen)}
    if len(prompt.points):
        entry |= {"points": voxels(prompt.points), "labels": prompt.labels.tolist()}
    if prompt.box is not None:
        entry["box"] = voxels(np.reshape(prompt.box, (2, 2)))
    if prompt.mask is not None:
        entry["mask"] = packed(slices.view.plane_back(prompt.mask))
    return entry


@dataclass
class Loaded:
    """Prompts from JSON, not yet a session's.

    Attributes:
        objects: numbers, names and colours.
        tracks: by key; None for tracks that a start takes the place of.
        starts: by object.
        latest: place of the last prompt.
    """

    objects: list[SavedObject] = field(default_factory=list)
    tracks: dict[Key, Track | None] = field(default_factory=dict)
    starts: dict[int, np.ndarray | None] = field(default_factory=dict)
    latest: PromptPlace | None = None


@dataclass(frozen=True)
class SavedPrompts:
    """JSON that was read, with an image's shape and spacing and objects, whose content is not yet checked.

    Attributes:
        content: the JSON's top object.
    """

    content: Mapping[str, Any]

    def mask_bytes(self, shape: tuple[int, int, int]) -> int:
        """Bound the memory that its starts and masks take on an image, which may be far more than the JSON's.

        Args:
            shape: of the image.
        """
        voxels = int(np.prod(shape))
        total = 0
        for entry in self.content["objects"]:
            found = entry if isinstance(entry, dict) else {}
            slices = found.get("slices")
            drawn = sum("mask" in one for one in slices if isinstance(one, dict)) if isinstance(slices, list) else 0
            total += voxels * ("start" in found) + drawn * voxels // min(shape)
        return total


def load(saved: SavedPrompts, objects: Objects, axes: Sequence[Planes], volume: Volume) -> Loaded:
    """Check prompts that were read, to be added to those that objects have.

    Args:
        saved: the prompts.
        objects: of the session; not changed.
        axes: the slices of the image along each axis.
        volume: the image.

    Raises:
        PromptError: they are for another image, or a prompt is invalid.
    """
    content = saved.content
    _check_image(content, volume)
    loaded = Loaded(latest=objects.latest)
    for entry in content["objects"]:
        try:
            _load_object(loaded, entry, objects, axes, volume.shape)
        except PromptError as error:
            raise PromptError(f"the prompts cannot be loaded: {error}") from error
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            number = entry.get("object") if isinstance(entry, dict) else entry
            raise PromptError(
                f"the prompts of object {str(number)[:20]} cannot be read: the file was not written by this program, "
                "or was changed."
            ) from error
    return loaded


def parse(text_or_path: str | Path) -> SavedPrompts:
    """Read JSON, whose format and version must be right; needs no session, so that any thread can do it.

    Args:
        text_or_path: the JSON itself (str), or its file (Path).

    Raises:
        PromptError: the file cannot be read, or is no JSON of this form.
    """
    name = "the text"
    try:
        if isinstance(text_or_path, Path):
            name = str(text_or_path)
            text_or_path = text_or_path.read_text(encoding="utf-8")
        content = json.loads(text_or_path)
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} is no JSON: give prompts that were saved by this program.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PromptError(f"{name} holds no prompts: give JSON whose format is {FORMAT!r}.")
    if content.get("version") != VERSION:
        raise PromptError(
            f"{name} has version {str(content.get('version'))[:20]} of the format, but this program reads {VERSION}: "
            "update the program."
        )
    if not isinstance(content.get("objects"), list):
        raise PromptError(f"{name} has no list of objects: give prompts that were saved by this program.")
    return SavedPrompts(content)


def _check_image(content: Mapping[str, Any], volume: Volume) -> None:
    """Check that prompts were made on an image of this shape and spacing.

    Raises:
        PromptError: they were not.
    """
    try:
        shape, spacing = (np.array(content.get(name), dtype=float) for name in ("shape", "spacing"))
    except (TypeError, ValueError):
        shape = spacing = np.zeros(0)
    if shape.shape != (3,) or spacing.shape != (3,):
        raise PromptError("the prompts do not say for which image they are: shape and spacing need three numbers.")
    if tuple(shape) != volume.shape or not np.allclose(spacing, volume.spacing, rtol=1e-3, atol=0):
        raise PromptError(
            f"the prompts are for an image of {_numbers(shape)} voxels of {_numbers(spacing)} mm, but {volume.name} "
            f"has {_numbers(volume.shape)} of {_numbers(volume.spacing)} mm: load them with their own image."
        )


def _numbers(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _check_colour(object_id: int, colour: str | None) -> None:
    """Check the colour of an object.

    Raises:
        PromptError: it is not written as in CSS.
    """
    if colour is not None and not COLOUR.fullmatch(colour):
        raise PromptError(f"the colour of object {object_id} is {colour[:20]!r}, but must be written #rrggbb.")


def _load_object(
    loaded: Loaded, entry: dict[str, Any], objects: Objects, axes: Sequence[Planes], shape: tuple[int, int, int]
) -> None:
    object_id = checks.check_object(entry["object"])
    if object_id in [known.object_id for known in loaded.objects]:
        raise PromptError(f"object {object_id} is there twice.")
    name, colour = entry.get("name"), entry.get("colour")
    _check_colour(object_id, colour)
    named = SavedObject(object_id, None if name is None else str(name), colour, entry.get("protected") is True)
    tracks = {key: track for key, track in objects.tracks.items() if key.object_id == object_id}
    has_start = object_id in objects.starts
    if entry.get("start") is not None:
        loaded.starts[object_id] = checks.check_volume(unpacked(entry["start"], shape), shape)
        loaded.tracks.update(dict.fromkeys(tracks))
        tracks, has_start = {}, True
    for one in entry["slices"]:
        slices = axes[checks.check_axis(one["axis"])]
        key, seen = Key(object_id, slices.axis), slices.turned(checks.check_slice(one["slice"], shape, slices.axis))
        slices.check_shows(seen)
        track = tracks.get(key, Track())
        prompt = _add_to(track.prompts.get(seen, SlicePrompt.empty()), one, slices, shape)
        tracks[key] = track.prompted(seen, prompt)
        loaded.tracks[key], loaded.latest = tracks[key], PromptPlace(key, seen)
    for key, track in tracks.items():
        for seen, prompt in track.prompts.items():
            empty = prompt.mask is not None and not prompt.mask.any()
            if empty and not has_start and not track.has_prompts_elsewhere(seen):
                raise PromptError(f"the only mask of object {object_id} along axis {key.axis} is empty.")
    if not tracks and not has_start:
        raise PromptError(f"object {object_id} has neither prompts nor a start.")
    loaded.objects.append(named)


def _add_to(prompt: SlicePrompt, one: dict[str, Any], slices: Planes, shape: tuple[int, int, int]) -> SlicePrompt:
    """Add a slice's points, box or mask to its prompt."""
    axis, index = slices.axis, one["slice"]
    if one.get("mask") is not None:
        plane = tuple(length for k, length in enumerate(shape) if k != axis)
        mask = np.ascontiguousarray(slices.view.plane(unpacked(one["mask"], plane)))
        return replace(SlicePrompt.empty(), mask=mask)
    given = 0
    for name in ("box", "points"):
        if one.get(name) is None:
            continue
        voxels, lies_on = checks.check_points(one[name], shape, axis)
        if lies_on != index:
            lies = "lies" if name == "box" else "lie"
            raise PromptError(
                f"the {name} listed for slice {index} {lies} on slice {lies_on} (axis {axis}): correct the file, or "
                "save the prompts again."
            )
        if name == "points":
            prompt = prompt.with_points(slices.points(voxels), checks.check_labels(one["labels"], len(voxels)))
        else:
            prompt = prompt.with_box(checks.check_box(slices.points(voxels), voxels))
        given += 1
    if not given:
        raise PromptError(f"there are no prompts on slice {index} along axis {axis}.")
    return prompt


def packed(mask: np.ndarray) -> str:
    """Pack a mask, bool, into text; see the module."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Invert :func:`packed` for a mask of ``shape``; never unpacks more than that.

    Raises:
        PromptError: the text holds something else.
    """
    voxels = int(np.prod(shape))
    length = (voxels + 7) // 8
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(text, validate=True), length + 1)
    except (TypeError, ValueError, zlib.error) as error:
        raise PromptError("a mask is not what this program writes, or was changed.") from error
    if len(data) != length or not stream.eof:
        raise PromptError(f"a mask does not have the {by(shape)} voxels of its place.")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=voxels).reshape(shape).astype(bool)
