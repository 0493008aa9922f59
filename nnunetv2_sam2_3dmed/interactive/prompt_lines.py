"""Prompts from a command line or a CSV file, and cases with such prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.csv_files import Row, read_csv
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import check_same_grid, read_volume
from nnunetv2_sam2_3dmed.interactive.extents import Extent
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, check_axis, check_object, check_points
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession

VOXELS, MILLIMETRES = UNITS = ("voxel", "mm")
POINTS = {"point": 1, "negative_point": 0}
SCRIBBLES = {"scribble": 1, "negative_scribble": 0}
RECIST = "recist"
KINDS = (*POINTS, "box", RECIST, *SCRIBBLES, "mask")
REQUIRED = ("image", "prompt", "where")
OPTIONAL = ("object", "axis", "unit", "first", "last", "output")


@dataclass(frozen=True)
class PromptLine:
    """A prompt as text.

    Attributes:
        kind: one of :data:`KINDS`.
        where: "z,y,x", for boxes, scribbles and RECIST diameters several of these with colons between; for a mask its
            file, or "FILE@SLICE".
        object_id: of its object.
        axis: along which the slices lie; None for that of the model's training.
        unit: "voxel" (order z, y, x) or "mm" (order x, y, z, LPS).
        extent: first and last slice of the object along the axis, both included, over all of its parts; None for any.
    """

    kind: str
    where: str
    object_id: int = 1
    axis: int | None = None
    unit: str = VOXELS
    extent: Extent | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"

    def check(self) -> None:
        """Check everything that needs no image.

        Raises:
            UserError: the prompt is invalid for any image.
        """
        if self.kind not in KINDS:
            raise PromptError(f"the prompt is {self.kind!r}, but must be one of {', '.join(KINDS)}.")
        if self.unit not in UNITS:
            raise PromptError(f"the unit is {self.unit!r}, but must be voxel (z, y, x) or mm (x, y, z in LPS).")
        if self.kind == "mask":
            file, _ = self.mask_file
            if not file.exists():
                raise PromptError(f"there is no mask {file}: give a segmentation on the image's grid.")
        elif self.kind == "box" and len(self._points()) != 2:
            raise PromptError(f"a box needs two corners, z,y,x:z,y,x, but got {self.where!r}.")
        elif self.kind == RECIST and len(self._points()) not in (2, 4):
            raise PromptError(
                "a RECIST measurement needs the two ends of the longest diameter, z,y,x:z,y,x, or these and the two of "
                f"the perpendicular one, but got {self.where!r}."
            )
        else:
            self._points()

    def add_to(self, session: InteractiveSession) -> None:
        """Add the prompt to ``session``.

        Raises:
            UserError: the prompt is invalid, or invalid for this image; or it would replace the object's box.
        """
        self.check()
        if self.kind == "mask":
            self._add_mask(session)
            return
        voxels, axis = self._voxels(session), self.axis_in(session)
        if self.kind in POINTS:
            session.add_points(voxels.tolist(), POINTS[self.kind], self.object_id, axis)
        elif self.kind in SCRIBBLES:
            session.add_scribble(voxels.tolist(), SCRIBBLES[self.kind], self.object_id, axis)
        elif self.kind == RECIST:
            self._check_only_box(session, voxels, axis)
            ends = voxels.tolist()
            session.add_recist(ends[:2], ends[2:] or None, self.object_id, axis)
        else:
            self._check_only_box(session, voxels, axis)
            session.add_box(voxels[0].tolist(), voxels[1].tolist(), self.object_id, axis)

    def axis_in(self, session: InteractiveSession) -> int:
        """Return the axis of the session's image along which the slices lie."""
        return session.learned_axis if self.axis is None else self.axis

    @property
    def mask_file(self) -> tuple[Path, int | None]:
        """File of a mask, and the slice index after the @, if there is one."""
        name, _, named = self.where.rpartition("@")
        return (Path(name), int(named)) if name and named.isdecimal() else (Path(self.where), None)

    def _points(self) -> np.ndarray:
        """Parse the points (N, 3).

        Raises:
            PromptError: the text has another form.
        """
        try:
            points = np.array([[float(value) for value in point.split(",")] for point in self.where.split(":")])
        except ValueError:
            points = np.zeros(0)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            order = "z,y,x" if self.unit == VOXELS else "x,y,z"
            raise PromptError(
                f"a {self.kind} is written {order} with decimal points, and colons between several, but got "
                f"{self.where!r}."
            )
        return points

    def _voxels(self, session: InteractiveSession) -> np.ndarray:
        """Return voxel coordinates (N, 3), z, y, x."""
        points = self._points()
        if self.unit == VOXELS:
            return points
        voxels = session.image.to_voxels(points)
        # a plane in mm rarely meets the middle of a slice to the last digit; the first point decides which it is
        places = voxels[:, self.axis_in(session)]
        places[np.abs(places - places[0]) < 0.5] = places[0]
        return voxels

    def _check_only_box(self, session: InteractiveSession, voxels: np.ndarray, axis: int) -> None:
        """Check that the object has no box on the slice yet: a second one would replace it.

        Args:
            session: to which the prompt is to be added.
            voxels: (N, 3), corners or ends of diameters, z, y, x.
            axis: along which the slices lie.

        Raises:
            PromptError: it has one.
        """
        try:
            _, index = check_points(voxels.tolist(), session.image.shape, axis, "voxel")
        except PromptError:
            return  # the session says it in its own words
        for placed in session.prompts:
            same = (placed.object_id, placed.axis, placed.index) == (self.object_id, axis, index)
            if same and placed.prompt.box is not None:
                raise PromptError(
                    f"{self} is a second box of object {self.object_id} on slice {index} along axis {axis}, and would "
                    "replace the first: leave one of them out, or write both RECIST diameters as one prompt, the "
                    "longest one first, as in z,y,x:z,y,x:z,y,x:z,y,x."
                )

    def _add_mask(self, session: InteractiveSession) -> None:
        """Add the object's mask on one slice of a segmentation: the named one, else the one where it is largest."""
        name, named = self.mask_file
        segmentation = read_volume(name)
        check_same_grid(segmentation, session.image)
        inside = object_in(label_map(segmentation.array, name), self.object_id, name)
        axis = self.axis_in(session)
        others = tuple(k for k in range(3) if k != axis)
        index = int(inside.sum(axis=others).argmax()) if named is None else named
        if index >= inside.shape[axis]:
            raise PromptError(f"slice {index} of {name} does not exist: there are 0 to {inside.shape[axis] - 1}.")
        session.add_mask(np.take(inside, index, axis=axis), index, self.object_id, axis)


def object_in(labels: np.ndarray, object_id: int, name: Path) -> np.ndarray:
    """Return an object's mask from a label map: that of its number, or of the only label.

    Args:
        labels: any shape, whole numbers.
        object_id: of the object.
        name: of the file, for messages.

    Raises:
        PromptError: the label map is empty, or has several labels but not that of the object.
    """
    values = np.unique(labels)
    values = values[values != 0].tolist()
    if not values:
        raise PromptError(f"{name} is empty: give a mask with voxels of the object.")
    if len(values) > 1 and object_id not in values:
        raise PromptError(
            f"{name} has the labels {', '.join(map(str, values))}, but none for object {object_id}: give the "
            "object the number of its label."
        )
    return labels == object_id if object_id in values else labels != 0


@dataclass(frozen=True)
class Case:
    """An image with its prompts.

    Attributes:
        image: file or folder.
        prompts: at least one.
        output: the file to write; None for the command to choose.
    """

    image: Path
    prompts: tuple[PromptLine, ...]
    output: Path | None = None

    @property
    def extents(self) -> dict[int, Extent]:
        """First and last slice of the objects that have them."""
        return extents_of(self.prompts)


def extents_of(prompts: Sequence[PromptLine]) -> dict[int, Extent]:
    """Return first and last slice of each object of which a prompt names them."""
    return {line.object_id: line.extent for line in prompts if line.extent is not None}


def read_cases(file: Path, axis: int | None = None, unit: str = VOXELS) -> list[Case]:
    """Read a CSV file with a line per prompt; lines of one image make a case. Paths start at the file's folder.

    Args:
        file: the CSV file.
        axis: of lines that name none.
        unit: of lines that name none.

    Raises:
        UserError: the file cannot be read, lacks a column or has a misspelt one, a line lacks a value, or the lines of
            an object name different slices as its first and last.
    """
    prompts: dict[Path, list[PromptLine]] = {}
    outputs: dict[Path, Path] = {}
    for row in read_csv(file, REQUIRED, OPTIONAL):
        empty = [name for name in REQUIRED if not row[name]]
        if empty:
            raise UserError(
                f"line {row.number} of {file} has nothing in the column {empty[0]}: fill it in, or delete the line."
            )
        image = file.parent / row["image"]
        line = _prompt_of(row, file, axis, unit)
        known = prompts.setdefault(image, [])
        if line.extent is not None and extents_of(known).get(line.object_id, line.extent) != line.extent:
            raise UserError(
                f"line {row.number} of {file} names another first or last slice of object {line.object_id} of "
                f"{row['image']} than a line before: correct one of them; an object of several parts has "
                "one range, from the first slice of all parts to the last."
            )
        known.append(line)
        if row["output"]:
            output = file.parent / row["output"]
            if outputs.setdefault(image, output) != output:
                raise UserError(
                    f"line {row.number} of {file} names another output for {row['image']} than a line before: give "
                    "one output per image."
                )
    if not prompts:
        raise UserError(f"{file} has no prompts: write one line per prompt.")
    return [Case(image, tuple(lines), outputs.get(image)) for image, lines in prompts.items()]


def _prompt_of(row: Row, file: Path, axis: int | None, unit: str) -> PromptLine:
    kind, where = row["prompt"].lower(), row["where"]
    if kind == "mask":
        where = str(file.parent / where)
    try:
        object_id = check_object(_whole(row["object"] or "1"))
        axis = check_axis(_whole(row["axis"])) if row["axis"] else axis
        ends = [_whole(row[name]) for name in ("first", "last") if row[name]]
    except ValueError as error:
        said = str(error) if isinstance(error, PromptError) else "object, axis, first and last must be whole numbers."
        raise UserError(f"line {row.number} of {file}: {said}") from error
    if len(ends) == 1 or ends != sorted(ends) or any(end < 0 for end in ends):
        raise UserError(
            f"line {row.number} of {file} has the first slice {row['first'] or 'empty'} and the last "
            f"{row['last'] or 'empty'}, but both are needed, counted from 0, the smaller one first."
        )
    extent = (ends[0], ends[1]) if ends else None
    return PromptLine(kind, where, object_id, axis, row["unit"].lower() or unit, extent)


def _whole(text: str) -> int:
    """Parse a whole number, which spreadsheets may write as 2.0 or 2,0.

    Raises:
        ValueError: the text is no whole number.
    """
    number = float(text.replace(",", "."))
    if not number.is_integer():
        raise ValueError(text)
    return int(number)
