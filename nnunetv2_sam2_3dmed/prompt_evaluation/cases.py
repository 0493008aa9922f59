"""Cases of an nnU-Net dataset with their truth, in a session: prompted as a simulated user would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import Volume, read_volume
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.headers import check_same_voxels
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Box, Click

Classes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class RawCase:
    """A case of a dataset.

    Attributes:
        name: its identifier.
        image: the file of the channel that is shown.
        truth: the file of its labels.
    """

    name: str
    image: Path
    truth: Path


def raw_cases(
    raw_folder: Path, dataset_json: Mapping[str, Any], names: Sequence[str], channel: int = 0
) -> list[RawCase]:
    """Training cases by their identifiers.

    Args:
        raw_folder: the dataset's folder in nnUNet_raw.
        dataset_json: its dataset.json.
        names: identifiers.
        channel: which of the images' channels is shown.

    Raises:
        UserError: the folder, a case or the channel does not exist.
    """
    if not raw_folder.is_dir():
        raise UserError(f"{raw_folder} does not exist, but prompts are given on the raw images: set nnUNet_raw.")
    known = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dict(dataset_json)))
    missing = [name for name in names if name not in known]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{raw_folder} lacks the images of {', '.join(missing[:3])}{more}: put them back.")
    cases = []
    for name in names:
        images = known[name]["images"]
        if not 0 <= channel < len(images):
            raise UserError(f"the channel is {channel}, but {name} has {len(images)}: give one from 0.")
        cases.append(RawCase(name, Path(images[channel]), Path(known[name]["label"])))
    return cases


class PromptedCase:
    """A case in a session; its objects are the classes that it has, numbered from 1 in the order of all classes.

    Places are those of the slices as they are shown: index, row, column of the view along ``axis``. Voxels of image and
    truth belong together by their number, as in nnU-Net, and the image says where they lie.

    Args:
        session: takes the image; what it had before is forgotten.
        case: the files.
        classes: label values of each class or region.
        ignore_label: that nothing is known of, or None.
        axis: of the array along which the slices lie; None for that which the model has learned.

    Raises:
        UserError: a file cannot be read, image and truth have other voxels, or the truth is no label map.
    """

    def __init__(
        self,
        session: InteractiveSession,
        case: RawCase,
        classes: Classes,
        ignore_label: int | None,
        axis: int | None = None,
    ):
        self.session = session
        self.case = case
        self.classes = classes
        image, truth = read_volume(case.image), read_volume(case.truth)
        check_same_voxels(truth, image)
        self.labels = label_map(truth.array, case.truth)
        self.image: Volume = session.set_image(image)
        self.axis = session.learned_axis if axis is None else axis
        self.counted = None if ignore_label is None else self.labels != ignore_label
        self.view = image.view(self.axis)
        self.truths: dict[int, np.ndarray] = {}
        for number, values in enumerate(classes.values(), start=1):
            mask = np.isin(self.labels, values)
            if mask.any():
                self.truths[number] = self.view.of(mask)

    def forget(self, number: int) -> None:
        """Forgets all that was said and found of an object; the features of the slices stay."""
        if number in self.session.object_ids:
            self.session.remove_object(number)

    def click(self, number: int, index: int, click: Click) -> bool:
        """Adds a click; False where SAM 2 saw no object, and the session took the click back."""
        (voxel,) = self._voxels([(index, click.row, click.column)])
        return self._prompted(number, index, lambda: self.session.add_points([voxel], click.label, number, self.axis))

    def box(self, number: int, index: int, box: Box) -> bool:
        """Adds a box; False where SAM 2 saw no object in it, and the session took it back."""
        top, left, bottom, right = box
        first, last = self._voxels([(index, top, left), (index, bottom, right)])
        return self._prompted(number, index, lambda: self.session.add_box(first, last, number, self.axis))

    def mask(self, number: int, index: int, mask: np.ndarray) -> bool:
        """Draws the object on a slice; False where the session did not take it."""
        own = self.view.plane_back(mask)
        stored = self.view.slice_index(index, self.image.shape)
        return self._prompted(number, index, lambda: self.session.add_mask(own, stored, number, self.axis))

    def propagate(self, number: int) -> None:
        """Carries an object to all slices; nothing where there is none."""
        if any(prompt.object_id == number for prompt in self.session.prompts):
            self.session.propagate([number], self.axis)

    def found(self, number: int) -> np.ndarray:
        """An object as it is now, bool, in the view, in the voxels that count: nobody knows what ignored ones are."""
        if number not in self.session.object_ids:
            return np.zeros(self.view.shape(self.image.shape), dtype=bool)
        mask = self.session.mask(number)
        return self.view.of(mask if self.counted is None else mask & self.counted)

    def label_map(self, values: Sequence[int]) -> np.ndarray:
        """All objects on the image's grid, as nnU-Net writes labels: the later of two regions stands above.

        Args:
            values: what each class, or each region in nnU-Net's order, is written as.
        """
        labels = np.zeros(self.image.shape, dtype=np.uint8 if max(values) < 256 else np.uint16)
        if all(len(own) == 1 for own in self.classes.values()):
            objects = self.session.labels()  # the surer one where two overlap
            for number, value in enumerate(values, start=1):
                labels[objects == number] = value
            return labels
        for number, value in enumerate(values, start=1):
            if number in self.session.object_ids:
                labels[self.session.mask(number)] = value
        return labels

    def _prompted(self, number: int, index: int, add: Any) -> bool:
        try:
            add()
            self.session.predict_slice(number, self.axis, self.view.slice_index(index, self.image.shape))
        except PromptError:  # an empty slice, or SAM 2 sees nothing; the session took it back
            return False
        return True

    def _voxels(self, places: Sequence[tuple[float, float, float]]) -> list[list[float]]:
        """Places in the view -> voxels (z, y, x)."""
        return self.view.points_back(np.array(places, dtype=float), self.image.shape).tolist()
