"""A round's cases in the order in which a person works through them, and what the person makes of each.

Results go into the round's folder: revised 2D masks into ``revised/``, for ``annotate rank --revised``, and corrected
volumes into ``corrected/``, for ``annotate take --corrected``; their files, and those of images without an object in
``nothing/``, say which cases are done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, MaskRow, changing_table, table_rows
from nnunetv2_sam2_3dmed.annotation.rounds import Round, chosen_cases
from nnunetv2_sam2_3dmed.annotation.times import OUTLINE, VOLUME, Sitting, add_sitting, read_times
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import Volume, check_same_grid, read_volume, write_segmentation
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

FOLDERS = {OUTLINE: "revised", VOLUME: "corrected"}
_NOTHING = "nothing"


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
        nothing: instead of ``result`` where the person finds no object, in the first stage: `annotate rank` takes no
            mask without a row in the table.
        chosen: False where another case of the same patient was chosen.
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
    nothing: Path | None = None
    chosen: bool = True

    @property
    def waits(self) -> bool:
        """True while a person has to work on it."""
        return self.chosen and not self.done

    @property
    def done(self) -> bool:
        """True once the person's masks are written."""
        return self.drawn is not None

    @property
    def drawn(self) -> Path | None:
        """The file of the person's masks, with voxels or without; None before it is written."""
        return next((file for file in (self.result, self.nothing) if file is not None and file.is_file()), None)


class RoundQueue:
    """The cases of a round; read anew for each call, as commands add to it meanwhile.

    Which sittings were counted is kept as long as the queue, for clients that send one again.

    Args:
        folder: folder of the round.
        objects: names of all labels that a mask may have.

    Attributes:
        id: of the round.

    Raises:
        UserError: it holds no round.
    """

    def __init__(self, folder: Path, objects: Mapping[int, str]):
        self.folder = folder
        self.objects = dict(objects)
        made = Round.read(folder)
        self.id, self.made_by = made.id, made.made_by
        self._counted: dict[tuple[str, str, int | None], Mapping[int, float]] = {}  # person's seconds of a sitting

    def cases(self) -> list[QueuedCase]:
        """Return the cases of the first stage, then those of the second in the order of ``ranking.csv``.

        That is the hardest first, and before all others those chosen of each patient.

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
                self.folder / _NOTHING / into.outline(name).name,
            )
            for name, case in into.outlines.items()
            if name not in into.cases
        ]
        chosen = chosen_cases(into.cases, into.per_patient)
        ranked = sorted(into.cases.items(), key=lambda item: (item[0] not in chosen, -item[1].disagreement, item[0]))
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
                chosen=name in chosen or not case.patient,
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
        self,
        case: QueuedCase,
        check_bytes: Callable[[int], None] | None = None,
        check_masks: Callable[[int], None] | None = None,
    ) -> tuple[Volume, dict[int, np.ndarray]]:
        """Read the image of a case, and the masks of its objects: the person's if it is done, else the model's.

        Args:
            case: the case.
            check_bytes: see ``read_volume``.
            check_masks: called with the bytes of all masks before they are made; raises UserError for too many.

        Raises:
            UserError: a file is missing, was changed since the model saw it, or is too large; or the masks have another
                grid, or values that are no labels of the dataset.
        """
        for file, checksum in ((case.image, case.image_sha256), (case.mask, case.mask_sha256)):
            if not file.is_file() or sha256_of(file) != checksum:
                raise UserError(
                    f"{file} was changed or removed since the model segmented it: restore the file, or make the round "
                    "again."
                )
        image = read_volume(case.image, check_bytes)
        file = case.drawn or case.mask
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
        if check_masks is not None:
            check_masks(len(present) * labels.size)
        return image, {value: labels == value for value in present}

    def extents(self, case: QueuedCase) -> dict[int, tuple[int, int, int]]:
        """Return axis, first and last slice of each object of a case of which they were named.

        In the first stage that is in the table; in the second, with the prompts of which the model made the volume.

        Raises:
            UserError: the table cannot be read, or a row of the case holds no whole numbers.
        """
        if case.axis is None:
            ranked = Round.read(self.folder).cases[case.name].objects
            return {
                one.label: (one.axis, one.first, one.last)
                for one in ranked
                if one.axis is not None and one.first is not None and one.last is not None
            }
        rows = [self._of_case(case, row) for row in table_rows(Round.read(self.folder))]
        return {row.label: (case.axis, *row.ends) for row in rows if row is not None and row.ends is not None}

    def _where(self, case: QueuedCase) -> str:
        return case.mask.relative_to(self.folder).as_posix()

    def _of_case(self, case: QueuedCase, row: Mapping[str, str]) -> MaskRow | None:
        """Return what a row of the table says of the masks of a case; None for another row.

        Raises:
            UserError: see ``MaskRow.of``.
        """
        where = self._where(case)
        if row["where"] != where and row["where"].rpartition("@")[0] != where:
            return None
        return MaskRow.of(row, self.folder / TABLE)

    def check_same(self, case: QueuedCase) -> None:
        """Check that the round still has a case as it was when it was opened.

        Raises:
            UserError: a command of the round has segmented it again, or it is no longer in the round.
        """
        now = self.find(case.name)
        if (now.stage, now.mask_sha256) != (case.stage, case.mask_sha256):
            raise UserError(
                f"{case.name} was segmented again since it was opened, and nothing was written: open it again to see "
                "the new masks."
            )

    def finish(
        self,
        case: QueuedCase,
        labels: np.ndarray,
        image: Volume,
        sitting: Sitting,
        extents: Mapping[int, tuple[int, int]] | None = None,
        empty: bool = False,
    ) -> Path:
        """Write what a person has made of a case, and add the time.

        Args:
            case: the case.
            labels: label map (z, y, x).
            image: image of the case.
            sitting: its seconds are added to those of earlier ones. If the person's seconds of a sitting of its number
                were counted, as when the answer was lost, only what is more than these is added.
            extents: first and last slice by label, in the first stage.
            empty: in the first stage, the person finds no object in the image, whatever ``labels`` has: an empty mask
                is written into ``nothing/``, and the table has no row of the case.

        Returns:
            The file.

        Raises:
            UserError: see :meth:`check_same`; in the first stage, nothing is outlined, or a mask does not fit its first
                and last slice; or a table of the round cannot be read, or a file not be written.
        """
        self.check_same(case)
        read_times(self.folder)  # a table that was damaged while it was edited is found before anything is written
        if empty and case.nothing is None:
            raise UserError(f"{case.name} is a volume: erase its masks where there is no object.")
        if empty:
            labels, extents = np.zeros_like(labels), {}
        file, other = case.result, case.nothing
        if case.nothing is not None:  # the first stage
            self._write_table(case, labels, extents or {}, empty)
            if empty:
                file, other = case.nothing, case.result
        write_segmentation(file, labels, image)
        if other is not None:
            other.unlink(missing_ok=True)
        present = (int(value) for value in np.unique(labels) if value)
        worked_on = sorted({*case.objects, *present, *sitting.person, *sitting.machine})
        drawn = {label: int((labels == label).sum()) for label in worked_on}
        known = (case.name, case.stage, sitting.number)
        counted = self._counted.get(known, {})
        new = {label: max(0.0, sitting.person.get(label, 0.0) - counted.get(label, 0.0)) for label in worked_on}
        # all at once and last: what failed is sent again, and seconds are added up
        add_sitting(self.folder, case.name, case.stage, replace(sitting, person=new), drawn)
        if sitting.number is not None:
            self._counted[known] = {label: counted.get(label, 0.0) + one for label, one in new.items()}
        return file

    def _write_table(
        self, case: QueuedCase, labels: np.ndarray, extents: Mapping[int, tuple[int, int]], empty: bool
    ) -> None:
        """Give each slice with voxels of an object its row in the round's table, with first and last slice."""
        assert case.axis is not None
        others = tuple(k for k in range(3) if k != case.axis)
        slices = {label: np.flatnonzero((labels == label).any(axis=others)).tolist() for label in self.objects}
        if not any(slices.values()) and not empty:
            raise UserError(f"nothing is outlined in {case.name}: outline an object, or say that there is none.")
        for label, (first, last) in extents.items():
            name = self.objects.get(label, label)
            if not 0 <= first <= last < labels.shape[case.axis]:
                raise UserError(
                    f"the first slice of {name} is {first} and the last {last}, but they must be from 0 to "
                    f"{labels.shape[case.axis] - 1}, the first not after the last."
                )
            said = f"{name} goes from slice {first} to {last}, but"
            drawn = slices.get(label, [])
            outside = [index for index in drawn if not first <= index <= last]
            if outside:
                raise UserError(f"{said} its mask is on slice {outside[0]}: name others, or erase the mask there.")
            if not drawn:
                raise UserError(f"{said} it has no mask: outline it, or name no slices for it.")
        with changing_table(Round.read(self.folder)) as rows:
            known = {}
            kept = []
            for row in rows:
                of_case = self._of_case(case, row)
                if of_case is None:
                    kept.append(row)
                else:
                    known[of_case.label, of_case.index] = row
            rows[:] = kept
            for label, indices in slices.items():
                ends = extents.get(label, ("", ""))
                for index in indices:
                    own = {
                        "image": str(case.image),
                        "prompt": "mask",
                        "where": f"{self._where(case)}@{index}",
                        "object": str(label),
                        "axis": str(case.axis),
                    }
                    ended = {"first": str(ends[0]), "last": str(ends[1])}
                    rows.append({**known.get((label, index), {}), **own, **ended})

    def command(self) -> str | None:
        """Return the command that goes on with what is done, with the settings that the round was made by.

        None where no case that is done has an object.
        """
        cases = [case for case in self.cases() if case.result.is_file()]
        own = ["-d", self.made_by["dataset"], "--round", str(self.folder)]
        if not cases:
            return None
        if any(case.stage == OUTLINE for case in cases):
            words = [
                "rank",
                *own,
                "--prompts",
                str(self.folder / TABLE),
                "--revised",
                str(self.folder / FOLDERS[OUTLINE]),
            ]
            words += ["--model", self.made_by["model"]]
            if self.made_by.get("image_size"):
                words += ["--image-size", str(self.made_by["image_size"])]
            if self.made_by.get("window"):
                words += ["--window", *self.made_by["window"]]
            into = Round.read(self.folder)
            if into.group_by:
                words += ["--group-by", into.group_by, "--per-patient", str(into.per_patient)]
        else:
            words = ["take", *own, "--corrected", str(self.folder / FOLDERS[VOLUME])]
            same = [case for case in cases if self._is_unchanged(case)]
            if same:
                words += ["--confirmed", *(case.name for case in same)]
            if any(set(self.objects) - set(case.objects) for case in same):
                words.append("--partial")  # the person has seen the whole volume with the list of all labels
        return shlex.join(["sam2_3dmed", "annotate", *words])

    def _is_unchanged(self, case: QueuedCase) -> bool:
        return np.array_equal(read_volume(case.result).array, read_volume(case.mask).array)
