"""A round's cases in the order in which a person works through them, and what the person makes of each.

Results go into the round's folder: revised 2D masks into ``revised/``, for ``annotate rank --revised``, and corrected
volumes into ``corrected/``, for ``annotate take --corrected``; their files say which cases are done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, table_rows, write_rows
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.annotation.times import OUTLINE, VOLUME, add_person_seconds
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import Volume, check_same_grid, read_volume, write_segmentation
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

FOLDERS = {OUTLINE: "revised", VOLUME: "corrected"}
_LOCK = ".outlines.lock"


@dataclass(frozen=True)
class QueuedCase:
    """A case that a person works on.

    Attributes:
        name: case identifier.
        stage: ``OUTLINE``: 2D masks are revised, and first and last slice named; ``VOLUME``: the volume is revised.
        image: file of the image.
        image_sha256: checksum of that file.
        mask: file of the model's masks.
        mask_sha256: checksum of that file.
        result: file of the person's masks.
        objects: labels that had a prompt.
        axis: axis of the slices with 2D masks; None in the second stage.
    """

    name: str
    stage: str
    image: Path
    image_sha256: str
    mask: Path
    mask_sha256: str
    result: Path
    objects: tuple[int, ...]
    axis: int | None = None

    @property
    def done(self) -> bool:
        """True once the person's masks are written."""
        return self.result.is_file()


class RoundQueue:
    """The cases of a round; read anew for each call, as commands add to it meanwhile.

    Args:
        folder: folder of the round.
        objects: names of all labels that a mask may have.

    Raises:
        UserError: it holds no round.
    """

    def __init__(self, folder: Path, objects: Mapping[int, str]):
        self.folder = folder
        self.objects = dict(objects)
        self.made_by = Round.read(folder).made_by

    def cases(self) -> list[QueuedCase]:
        """Return the cases of the first stage, then those of the second, the hardest first.

        Raises:
            UserError: the round cannot be read.
        """
        into = Round.read(self.folder)
        waiting = [
            QueuedCase(
                name,
                OUTLINE,
                Path(case.image),
                case.image_sha256,
                into.outline(name),
                case.mask_sha256,
                self._result(OUTLINE, into.outline(name)),
                tuple(dict.fromkeys(one.label for one in case.objects)),
                case.axis,
            )
            for name, case in into.outlines.items()
            if name not in into.cases
        ]
        ranked = sorted(into.cases.items(), key=lambda item: (-item[1].disagreement, item[0]))
        return waiting + [
            QueuedCase(
                name,
                VOLUME,
                Path(case.image),
                case.image_sha256,
                into.mask(name),
                case.mask_sha256,
                self._result(VOLUME, into.mask(name)),
                tuple(one.label for one in case.objects),
            )
            for name, case in ranked
        ]

    def _result(self, stage: str, mask: Path) -> Path:
        return self.folder / FOLDERS[stage] / mask.name

    def find(self, name: str) -> QueuedCase:
        """Return a case.

        Raises:
            UserError: there is none of that name.
        """
        found = next((case for case in self.cases() if case.name == name), None)
        if found is None:
            raise UserError(f"{self.folder} has no case {name!r}: choose one of its cases.")
        return found

    def read(
        self, case: QueuedCase, check_bytes: Callable[[int], None] | None = None
    ) -> tuple[Volume, dict[int, np.ndarray]]:
        """Read the image of a case, and the masks of its objects: the person's if it is done, else the model's.

        Args:
            case: the case.
            check_bytes: see ``read_volume``.

        Raises:
            UserError: a file is missing, was changed since the model saw it, or is too large; or the masks have another
                grid, or values that are no labels of the dataset.
        """
        for file, checksum in ((case.image, case.image_sha256), (case.mask, case.mask_sha256)):
            if not file.is_file() or sha256_of(file) != checksum:
                raise UserError(
                    f"{file} is {'not the file of the round' if file.is_file() else 'missing'}: put that back, or make "
                    "the round again."
                )
        image = read_volume(case.image, check_bytes)
        file = case.result if case.done else case.mask
        drawn = read_volume(file, check_bytes)
        check_same_grid(drawn, image)
        labels = label_map(drawn.array, file)
        present = [int(value) for value in np.unique(labels) if value]
        strange = [value for value in present if value not in self.objects]
        if strange:
            raise UserError(
                f"{file} has voxels of {strange[0]}, but the labels of {self.made_by['dataset']} are "
                f"{', '.join(map(str, self.objects))}: correct the mask."
            )
        return image, {value: labels == value for value in present}

    def extents(self, case: QueuedCase) -> dict[int, tuple[int, int]]:
        """Return first and last slice of each object of a case of the first stage, where the table has both.

        Raises:
            UserError: the table cannot be read.
        """
        found = {}
        for row in table_rows(Round.read(self.folder)):
            ends = row.get("first", ""), row.get("last", "")
            if row["where"].rpartition("@")[0] == self._where(case) and all(end.isdecimal() for end in ends):
                found[int(row["object"])] = (int(ends[0]), int(ends[1]))
        return found

    def _where(self, case: QueuedCase) -> str:
        return case.mask.relative_to(self.folder).as_posix()

    def finish(
        self,
        case: QueuedCase,
        labels: np.ndarray,
        image: Volume,
        seconds: Mapping[int, float],
        extents: Mapping[int, tuple[int, int]] | None = None,
    ) -> Path:
        """Write what a person has made of a case, and add the time.

        Args:
            case: the case.
            labels: label map (z, y, x).
            image: image of the case.
            seconds: of the person, by label; added to those of earlier sittings.
            extents: first and last slice by label, in the first stage.

        Returns:
            The file.

        Raises:
            UserError: in the first stage, nothing is outlined, or a mask does not fit its first and last slice; or a
                file cannot be written.
        """
        if case.stage == OUTLINE:
            self._write_table(case, labels, extents or {})
        write_segmentation(case.result, labels, image)  # last, as it says that the case is done
        for label in sorted({*case.objects, *(int(value) for value in np.unique(labels) if value), *seconds}):
            add_person_seconds(self.folder, case.name, label, case.stage, seconds.get(label, 0.0))
        return case.result

    def _write_table(self, case: QueuedCase, labels: np.ndarray, extents: Mapping[int, tuple[int, int]]) -> None:
        """Give each slice with voxels of an object its row in the round's table, with first and last slice."""
        assert case.axis is not None
        others = tuple(k for k in range(3) if k != case.axis)
        slices = {label: np.flatnonzero((labels == label).any(axis=others)).tolist() for label in self.objects}
        if not any(slices.values()):
            raise UserError(f"nothing is outlined in {case.name}: outline an object, or leave the case for later.")
        for label, (first, last) in extents.items():
            said = f"{self.objects.get(label, label)} goes from slice {first} to {last}, but"
            if not 0 <= first <= last < labels.shape[case.axis]:
                raise UserError(f"{said} slices are 0 to {labels.shape[case.axis] - 1}, the first one before the last.")
            drawn = slices.get(label, [])
            outside = [index for index in drawn if not first <= index <= last]
            if outside:
                raise UserError(f"{said} its mask is on slice {outside[0]}: name others, or erase the mask there.")
            if not drawn:
                raise UserError(f"{said} it has no mask: outline it, or name no slices for it.")
        with held(self.folder / _LOCK) as descriptor:
            if descriptor is None:
                raise UserError(f"another process is writing {self.folder / TABLE}: try again.")
            into = Round.read(self.folder)
            rows = []
            known = {}
            for row in table_rows(into):
                if row["where"].rpartition("@")[0] == self._where(case):
                    known[int(row["object"]), int(row["where"].rpartition("@")[2])] = row
                else:
                    rows.append(row)
            for label, indices in slices.items():
                ends = extents.get(label, ("", ""))
                for index in indices:
                    own = {
                        "image": into.outlines[case.name].image,
                        "prompt": "mask",
                        "where": f"{self._where(case)}@{index}",
                        "object": str(label),
                        "axis": str(case.axis),
                    }
                    ended = {"first": str(ends[0]), "last": str(ends[1])}
                    rows.append({**known.get((label, index), {}), **own, **ended})
            write_rows(into, rows)

    def command(self) -> str:
        """Return the command that goes on with what is done."""
        cases = [case for case in self.cases() if case.done]
        words = ["sam2_3dmed", "annotate"]
        own = ["-d", self.made_by["dataset"], "--round", str(self.folder)]
        if any(case.stage == OUTLINE for case in cases):
            table = str(self.folder / TABLE)
            return shlex.join(
                [*words, "rank", *own, "--prompts", table, "--revised", str(self.folder / FOLDERS[OUTLINE])]
            )
        same = [case.name for case in cases if self._is_unchanged(case)]
        confirmed = ["--confirmed", *same] if same else []
        return shlex.join([*words, "take", *own, "--corrected", str(self.folder / FOLDERS[VOLUME]), *confirmed])

    def _is_unchanged(self, case: QueuedCase) -> bool:
        return np.array_equal(read_volume(case.result).array, read_volume(case.mask).array)
