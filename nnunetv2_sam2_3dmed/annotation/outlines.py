"""First stage of a round: the model's 2D masks of unlabelled objects, to be revised before they are propagated.

As MedSAM2's annotators work (MedSAM2, Results: efficient 3D lesion annotation): a box on the slice on which the lesion
is largest gives a 2D mask; a person revises it, and names the top and the bottom slice. The table that is written here
asks for both, and is the input of the second stage.
"""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.rounds import OutlinedCase, OutlinedObject, Round
from nnunetv2_sam2_3dmed.annotation.times import OUTLINE, set_machine_seconds, slices_of
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled, is_same_case
from nnunetv2_sam2_3dmed.csv_files import read_csv
from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.masks import dice
from nnunetv2_sam2_3dmed.images.volumes import check_same_grid, read_volume, write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.interactive.preview import write_preview
from nnunetv2_sam2_3dmed.interactive.prompt_lines import OPTIONAL, REQUIRED, PromptLine
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

TABLE = "outlines.csv"
LOCK = ".outlines.lock"
OWN = ("prompt", "where", "object", "axis")
COLUMNS = ("image", *OWN, "first", "last")


@dataclass(frozen=True)
class Outlining:
    """Settings of the first stage.

    Attributes:
        session: session with the model.
        objects: names of the objects by label.
        axis: slice axis of prompts made from predictions; None for the one that the model was trained on.
        window: intensity window, as for ``InteractiveSession.set_image``.
        previews: write a picture of each case.
    """

    session: InteractiveSession
    objects: Mapping[int, str]
    axis: int | None = None
    window: str | tuple[float, float] = "auto"
    previews: bool = True

    def run(
        self, cases: Sequence[Unlabelled], into: Round, progress: Callable[[str], None] = lambda line: None
    ) -> dict[str, str]:
        """Outline the cases that ``into`` lacks, and save after each.

        Returns:
            Error messages of failed cases by their names; no error stops the other cases.

        Raises:
            UserError: the round's table cannot be read.
        """
        table_rows(into)  # a table that was damaged while it was edited is found before anything is segmented
        failed = {}
        left = [case for case in cases if not is_outlined(case, into, self.axis)]
        for number, case in enumerate(left, start=1):
            outlined = None
            try:
                outlined = self.outline(case, into)
            except Exception as error:
                failed[case.name] = in_one_sentence(error)
            if outlined is None:
                self.session.clear()  # outside of the handler, whose traceback holds the memory
                progress(f"{number}/{len(left)} {case.name}: {failed[case.name]}")
                continue
            into.outlines[case.name] = outlined
            add_to_table(into, case.name)
            into.add(outlines={case.name: outlined})
            progress(f"{number}/{len(left)} {case.name}: {len(outlined.objects)} outlines")
        return failed

    def outline(self, case: Unlabelled, into: Round) -> OutlinedCase:
        """Segment the prompted slices of a case, and write the masks; no slice without a prompt gets a voxel.

        Raises:
            UserError: image, prediction or a prompt is not valid, or prompts are along several axes.
        """
        start = time.perf_counter()
        image = self.session.set_image(case.image, window=self.window)
        image_sha256, source = sha256_of(case.image), case.source(self.axis)
        axis = self.session.learned_axis if self.axis is None else self.axis
        prompts = case.prompts(image, list(self.objects), axis)
        axes = {line.axis_in(self.session) for line in prompts}
        if len(axes) > 1:
            raise PromptError("the prompts of an image are along several axes, but 2D masks are along one: choose one.")
        along = axes.pop()
        for line in prompts:
            line.add_to(self.session)
        places = sorted({(prompted.object_id, prompted.index) for prompted in self.session.prompts})
        for object_id, index in places:
            try:
                self.session.predict_slice(object_id, along, index)
            except PromptError:  # the model sees nothing, and the session took the prompts back
                continue
        labels = self.session.labels()
        file = into.outline(case.name)
        write_segmentation(file, labels, image)
        prompted = slices_of(labels, sorted({object_id for object_id, _ in places}), along)
        set_machine_seconds(into.folder, case.name, OUTLINE, time.perf_counter() - start, prompted)
        if self.previews:
            write_preview(into.outline_preview(case.name), self.session, labels, along)
        areas = [int((np.take(labels, index, along) == object_id).sum()) for object_id, index in places]
        return OutlinedCase(
            str(case.image),
            image_sha256,
            source,
            sha256_of(file),
            date.today().isoformat(),
            along,
            [OutlinedObject(*place, area) for place, area in zip(places, areas, strict=True)],
        )


def is_outlined(case: Unlabelled, into: Round, axis: int | None) -> bool:
    """Return if a round has the 2D masks of a case already.

    Args:
        case: the case.
        into: the round.
        axis: axis of the :class:`Outlining`.

    Raises:
        UserError: the round has the case with another image or other prompts.
    """
    known = into.outlines.get(case.name)
    if known is None or not into.outline(case.name).is_file():
        return False
    return is_same_case(case, known, into.folder, axis)


def table_rows(into: Round) -> list[dict[str, str]]:
    """Return the rows of the round's table by column, as they may have been edited; empty if there is none.

    Raises:
        UserError: the table cannot be read.
    """
    file = into.folder / TABLE
    rows = read_csv(file, REQUIRED, OPTIONAL) if file.is_file() else []
    return [{**row.values, **row.others} for row in rows]


def add_to_table(into: Round, case: str) -> None:
    """Add the 2D masks of a case to the round's table, with first and last slice left empty; all else stays.

    Raises:
        UserError: see :func:`changing_table`.
    """
    outlined, mask = into.outlines[case], into.outline(case)
    with changing_table(into) as rows:
        known = {tuple(row[column] for column in OWN) for row in rows}
        for one in outlined.objects:
            where = f"{mask.relative_to(into.folder).as_posix()}@{one.index}"
            own = ("mask", where, str(one.label), str(outlined.axis))
            if own not in known:
                rows.append({"image": outlined.image, **dict(zip(OWN, own, strict=True))})


@contextmanager
def changing_table(into: Round) -> Iterator[list[dict[str, str]]]:
    """Lock the round's table, yield its rows to be changed, and write them.

    Raises:
        UserError: another process holds the table for long, or it cannot be read or written.
    """
    with held(into.folder / LOCK) as descriptor:
        if descriptor is None:
            raise UserError(f"another process is writing {into.folder / TABLE}: try again.")
        rows = table_rows(into)
        yield rows
        write_rows(into, rows)


@dataclass(frozen=True)
class MaskRow:
    """A row of the round's table with a mask.

    Attributes:
        index: slice index; None for the slice on which the object is largest.
        label: label value.
        ends: first and last slice of the object; None where the row does not have both.
    """

    index: int | None
    label: int
    ends: tuple[int, int] | None

    @classmethod
    def of(cls, row: Mapping[str, str], table: Path) -> MaskRow:
        """Parse a row of :func:`table_rows`, as a spreadsheet may have saved it.

        Args:
            row: with a mask.
            table: the file, for messages.

        Raises:
            UserError: object, first or last slice is no whole number.
        """
        _, at, index = row["where"].rpartition("@")
        numbers: dict[str, int | None] = {}
        for column in ("object", "first", "last"):
            value = row.get(column, "")
            try:
                number = float(value.replace(",", ".") or "nan")  # 2,0 in some languages
                numbers[column] = int(number) if number.is_integer() else None
            except ValueError:
                numbers[column] = None
            if value and numbers[column] is None:
                raise UserError(
                    f"{table} has the {column} {value!r} in the row of {row['where']}, expected a whole number: "
                    "correct it."
                )
        label, first, last = (numbers[column] for column in ("object", "first", "last"))
        ends = None if first is None or last is None else (first, last)
        return cls(int(index) if at and index.isdecimal() else None, 1 if label is None else label, ends)


def write_rows(into: Round, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the rows of the round's table, as :func:`table_rows` returns them."""
    filled = [column for column in OPTIONAL if any(row.get(column) for row in rows)]
    others = [column for row in rows for column in row if column not in OPTIONAL]
    columns = list(dict.fromkeys([*COLUMNS, *filled, *others]))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(into.folder / TABLE, stream.getvalue())


def check_masks(session: InteractiveSession, into: Round, case: str, prompts: Sequence[PromptLine]) -> None:
    """Check that masks of the first stage, revised or not, show their objects where the rows of the table say.

    Unlike in a mask from elsewhere, the only label is not the object's, whatever its value: it may be that of another
    object, where the model saw nothing of this one.

    Args:
        session: session with the image of the case.
        into: the round.
        case: name of the case.
        prompts: the prompts; those with masks that have the file name of the first stage's are checked.

    Raises:
        UserError: an object has no voxel on a slice of a row, or a revised mask has some on a slice without a row.
    """
    named: dict[tuple[Path, int, int], set[int | None]] = defaultdict(set)
    for line in prompts:
        if line.kind == "mask" and line.mask_file[0].name == into.outline(case).name:
            line.check()
            file, index = line.mask_file
            named[file, line.object_id, line.axis_in(session)].add(index)
    for (file, object_id, axis), indices in named.items():
        volume = read_volume(file)
        check_same_grid(volume, session.image)
        others = tuple(k for k in range(3) if k != axis)
        own = label_map(volume.array, file) == object_id
        seen = set(np.flatnonzero(own.any(axis=others)).tolist())
        missing = sorted(index for index in indices - seen if index is not None)
        if missing or not seen:
            place = f" on slice {missing[0]}" if missing else ""
            raise PromptError(
                f"{file} has no voxel of object {object_id}{place}: draw it with this label in a revised mask, or take "
                "its row out of the table."
            )
        unnamed = sorted(seen - indices)
        if unnamed and None not in indices and file.resolve() != into.outline(case).resolve():
            raise PromptError(
                f"{file} has voxels of object {object_id} on slice {unnamed[0]}, but the table has no row for that: "
                f"add one that ends with @{unnamed[0]}, or erase them."
            )


def outline_dice(into: Round, case: str, prompts: Sequence[PromptLine]) -> dict[int, float]:
    """Return the Dice of the model's 2D masks and those that were propagated, by object; empty without a first stage.

    Args:
        into: the round of both.
        case: name of the case.
        prompts: the prompts that were propagated; those with masks count.

    Raises:
        UserError: the model's masks were edited in place, so that they cannot be compared.
    """
    if case not in into.outlines:
        return {}
    outlined, file = into.outlines[case], into.outline(case)
    if not file.is_file() or sha256_of(file) != outlined.mask_sha256:
        raise UserError(
            f"{file} is not the mask that the model wrote: put revised masks into another folder and name it with "
            "--revised; delete this one and outline again to restore it."
        )
    labels = label_map(read_volume(file).array, file)
    drawn = {(line.object_id, line.mask_file[1]): line.mask_file[0] for line in prompts if line.kind == "mask"}
    pairs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for one in outlined.objects:
        if (one.label, one.index) in drawn:
            model = np.take(labels, one.index, outlined.axis) == one.label
            pairs[one.label].append((model, _drawn(drawn[one.label, one.index], one, outlined.axis)))
    return {label: dice(*map(np.stack, zip(*masks, strict=True))) for label, masks in pairs.items()}


def _drawn(file: Path, one: OutlinedObject, axis: int) -> np.ndarray:
    """Return the mask that is a prompt for an object on a slice: the only label of a file may have any value."""
    labels = label_map(read_volume(file).array, file)
    drawn = labels == one.label
    return np.take(drawn if drawn.any() else labels != 0, one.index, axis)
