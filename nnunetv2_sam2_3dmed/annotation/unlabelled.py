"""Unlabelled cases, with prompts from a table or from the predictions of an automatic model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.disagreement import box_corners
from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import is_case_name
from nnunetv2_sam2_3dmed.annotation.rounds import FILE, OutlinedCase, RankedCase
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import READABLE, Volume, check_same_grid, read_volume
from nnunetv2_sam2_3dmed.interactive.prompt_lines import RECIST, VOXELS, Case, PromptLine, read_cases
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import middle_slice

CHANNEL = "_0000"


@dataclass(frozen=True)
class Unlabelled:
    """A case without a label.

    Attributes:
        name: case identifier.
        image: file of the image.
        given: prompts from a table.
        prediction: file of a segmentation from which prompts are made instead.
        outlined: the table is in the folder of a round, so that masks named after the case are of its first stage.
    """

    name: str
    image: Path
    given: tuple[PromptLine, ...] = ()
    prediction: Path | None = None
    outlined: bool = False

    def prompts(self, image: Volume, objects: Sequence[int], axis: int) -> tuple[PromptLine, ...]:
        """Return the prompts.

        Args:
            image: image of the case.
            objects: label values that a prediction may have.
            axis: slice axis of prompts made from a prediction.

        Raises:
            UserError: the prediction cannot be used.
        """
        if self.prediction is None:
            return self.given
        return boxes_of(self.prediction, image, objects, axis)

    def source(self, axis: int | None) -> list[str]:
        """Describe the origin of the prompts in words and checksums, which are equal for equal prompts.

        Args:
            axis: as for :meth:`prompts`; None for the one that the model was trained on.
        """
        if self.prediction is not None:
            return [f"boxes of {self.prediction}, {_checksum(self.prediction)}, {_in_words(axis)}"]
        return [in_words(line) for line in self.given]


def is_same_case(case: Unlabelled, known: RankedCase | OutlinedCase, folder: Path, axis: int | None) -> bool:
    """Check that a case of a round has the same image and prompts; return True.

    Args:
        case: the case.
        known: the case of that name in the round.
        folder: of the round, for messages.
        axis: as for :meth:`Unlabelled.source`.

    Raises:
        UserError: image or prompts differ.
    """
    for what, before, now in (
        ("image", (known.image, known.image_sha256), (str(case.image), sha256_of(case.image))),
        ("prompts", known.source, case.source(axis)),
    ):
        if before != now:
            raise UserError(
                f"{folder} has the case {case.name} with other {what} "
                f"({'; '.join(before)}, now {'; '.join(now)}): give another folder."
            )
    return True


def in_words(line: PromptLine) -> str:
    """Describe a prompt with its object, axis and unit, or for a mask the checksum of its file."""
    where = _checksum(line.mask_file[0]) if line.kind == "mask" else line.unit
    ends = "" if line.extent is None else f", slices {line.extent[0]} to {line.extent[1]}"
    return f"object {line.object_id}: {line}, {_in_words(line.axis)}, {where}{ends}"


def _in_words(axis: int | None) -> str:
    return "learned axis" if axis is None else f"axis {axis}"


def cases_of_table(file: Path, dataset: RawDataset, revised: Path | None = None) -> list[Unlabelled]:
    """Read the cases of a CSV as for ``sam2_3dmed segment --batch``; its column ``output`` is ignored.

    Args:
        file: the CSV.
        dataset: dataset whose labels are the objects.
        revised: folder of revised masks, which replace masks of the same file name; the others are kept.

    Raises:
        UserError: it cannot be read, an object is no label of the dataset, or has two boxes on one slice; or a revised
            mask replaces none.
    """
    cases, outlined = [], (file.parent / FILE).is_file()
    for case in _with_revised(read_cases(file), file, revised):
        strange = [line.object_id for line in case.prompts if line.object_id not in dataset.objects]
        if strange:
            known = ", ".join(f"{value} ({name})" for value, name in dataset.objects.items())
            raise UserError(
                f"{file} has a prompt for object {strange[0]} of {case.image.name}, but in {dataset.name} an object "
                f"must be one of the labels {known}: give it in the column `object`."
            )
        _check_boxes(file, case)
        # not resolved: a symbolic link has the name of the case, its target may have any
        name = _name_of(case.image, dataset)
        cases.append(Unlabelled(name, case.image.absolute(), case.prompts, outlined=outlined))
    return cases


def _with_revised(cases: Sequence[Case], table: Path, folder: Path | None) -> list[Case]:
    if folder is None:
        return list(cases)
    if not folder.is_dir():
        raise UserError(f"--revised is {folder}, but must be a folder of masks with the names of those in {table}.")
    own = {file.name: file for file in folder.glob("[!.]*") if file.name.lower().endswith(READABLE)}
    masks = {line.mask_file[0].name for case in cases for line in case.prompts if line.kind == "mask"}
    strange = sorted(set(own) - masks)
    if strange:
        raise UserError(
            f"{own[strange[0]]} is the name of no mask in {table}, expected {', '.join(sorted(masks)[:3]) or 'none'}: "
            "rename it, or take it out of the folder."
        )
    return [replace(case, prompts=tuple(_revised(line, own) for line in case.prompts)) for case in cases]


def _revised(line: PromptLine, own: Mapping[str, Path]) -> PromptLine:
    """Return a prompt with the revised mask of the same file name, if it is a mask and there is one."""
    file, index = line.mask_file
    if line.kind != "mask" or file.name not in own:
        return line
    return replace(line, where=f"{own[file.name]}{'' if index is None else f'@{index}'}")


def cases_of_predictions(predictions: Path, images: Path, dataset: RawDataset) -> list[Unlabelled]:
    """Return the cases of a folder as ``nnUNetv2_predict`` writes it.

    Raises:
        UserError: there are none, or one has no image.
    """
    for folder in (predictions, images):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give that of the predictions, and with -i that of the images.")
    cases = []
    for file in sorted(predictions.glob(f"[!.]*{dataset.ending}")):
        name = file.name.removesuffix(dataset.ending)
        image = images / f"{name}{CHANNEL}{dataset.ending}"
        if not image.is_file():
            raise UserError(f"the prediction {file} has no image {image}: add it, or remove the prediction.")
        cases.append(Unlabelled(name, image.absolute(), prediction=file.absolute()))
    if not cases:
        raise UserError(f"{predictions} holds no predictions *{dataset.ending}: run nnUNetv2_predict.")
    return cases


def check_new(cases: Sequence[Unlabelled], dataset: RawDataset, ranked: Collection[str] = ()) -> None:
    """Check that each case has its own image in the dataset's format, and a unique name.

    Args:
        cases: unlabelled cases.
        dataset: dataset to which they will be added.
        ranked: cases of an existing round, which may have been taken since.

    Raises:
        UserError: a case does not.
    """
    names: dict[str, Path] = {}
    files: dict[Path, Path] = {}
    for case in cases:
        if not case.image.is_file():
            raise UserError(f"there is no image {case.image}: correct its path; paths start at the CSV's folder.")
        if not case.image.name.endswith(dataset.ending):
            raise UserError(f"{case.image} must end in {dataset.ending}, as all images of {dataset.name}: convert it.")
        file = case.image.resolve()
        if file in files:
            raise UserError(f"{case.image} and {files[file]} are the same image: give it once, by one path.")
        if case.name in names:
            raise UserError(f"{case.image} and {names[case.name]} would both be the case {case.name}: rename one.")
        if not is_case_name(case.name):
            raise UserError(f"{case.image} would be the case {case.name!r}, which is no file name: rename it.")
        files[file] = names[case.name] = case.image
        if case.name not in ranked and dataset.has(case.name):
            raise UserError(
                f"{dataset.name} has a training case {case.name} already: rename {case.image}, or add --skip-taken to "
                "leave out all such cases."
            )


def without_taken(cases: Sequence[Unlabelled], dataset: RawDataset, ranked: Collection[str] = ()) -> list[Unlabelled]:
    """Return the cases without those whose names training cases of the dataset have.

    Args:
        cases: unlabelled cases.
        dataset: dataset to which they will be added.
        ranked: cases of an existing round, which are kept, though they may have been taken since.

    Raises:
        UserError: no case is left.
    """
    left = [case for case in cases if case.name in ranked or not dataset.has(case.name)]
    if cases and not left:
        raise UserError(
            f"{dataset.name} has training cases of the names of all {len(cases)} images: add other images, or rename "
            "those that are no training cases."
        )
    return left


def boxes_of(prediction: Path, image: Volume, objects: Sequence[int], axis: int) -> tuple[PromptLine, ...]:
    """Make a box around each object of a segmentation, on the object's middle slice along ``axis``.

    Raises:
        UserError: the segmentation is empty, has other labels, or lies on another grid.
    """
    segmentation = read_volume(prediction)
    check_same_grid(segmentation, image)
    labels = label_map(segmentation.array, prediction)
    found = [int(value) for value in np.unique(labels) if value]
    strange = [value for value in found if value not in objects]
    if strange or not found:
        what = f"has the label {strange[0]}" if strange else "is empty"
        raise UserError(f"{prediction} {what}, but objects are labelled {', '.join(map(str, objects))}.")
    view = image.view(axis)
    lines = []
    for value in found:
        seen = view.of(labels == value)
        index = middle_slice(seen)
        corners = view.points_back(box_corners(seen[index], index), image.shape)
        where = ":".join(",".join(f"{place:g}" for place in corner) for corner in corners)
        lines.append(PromptLine("box", where, value, axis))
    return tuple(lines)


def _check_boxes(file: Path, case: Case) -> None:
    """Check that each object has at most one box or RECIST measurement per slice: a second would replace the first.

    Raises:
        UserError: two rows have a box for the same object on the same slice.
    """
    seen = set()
    for line in case.prompts:
        place = _slice_of(line)
        if place is not None and place in seen:
            raise UserError(
                f"{file} has two boxes for object {line.object_id} on one slice of {case.image.name}, the second is "
                f"{line.where}: leave one of them out."
            )
        seen.add(place)


def _slice_of(line: PromptLine) -> tuple[int, int, str, float] | None:
    """Return object, axis, unit and position of a box's slice; None for other prompts and malformed boxes.

    If the axis is not given, it is the one along which the corners, or the ends of a diameter, do not differ.
    """
    if line.kind not in ("box", RECIST):
        return None
    try:
        corners = [[float(value) for value in corner.split(",")] for corner in line.where.split(":")[:2]]
        corner, opposite = corners if line.unit == VOXELS else [places[::-1] for places in corners]
        flat = [axis for axis in range(3) if corner[axis] == opposite[axis]]
        axis = line.axis if line.axis is not None else flat[0] if flat else 0
        place = corner[axis]
    except (ValueError, IndexError):  # which the session refuses
        return None
    return line.object_id, axis, line.unit, np.floor(place + 0.5) if line.unit == VOXELS else place


def _checksum(file: Path) -> str:
    return f"SHA-256 {sha256_of(file)}" if file.is_file() else "not there"


def _name_of(image: Path, dataset: RawDataset) -> str:
    return image.name.removesuffix(dataset.ending).removesuffix(CHANNEL)
