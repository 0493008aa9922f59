"""A user who knows the ground truth of a case and prompts its objects in a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import Volume, read_volume
from nnunetv2_sam2_3dmed.images.windows import AUTO
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase, check_same_voxels
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Box, Click

Classes = Mapping[str, tuple[int, ...]]


class SimulatedUser:
    """User of a session with a case; each class is an object, numbered from 1 in the order of all classes.

    Slice indices, rows and columns are those of the slices as they are displayed: of the view along ``axis``. Image and
    ground truth are matched voxel by voxel as in nnU-Net, and the image's grid counts.

    Args:
        session: receives the image; its earlier image is dropped.
        case: the files.
        classes: label values of each class or region.
        ignore_label: label value without ground truth, or None.
        axis: array axis along which the slices lie; None for the one that the model was trained on.
        window: of intensities, as for ``InteractiveSession.set_image``.

    Attributes:
        gt: ground truth masks of the classes that the case has, bool, in the view, by object number.

    Raises:
        UserError: a file cannot be read, image and ground truth differ in shape or spacing, or the ground truth is no
            label map.
    """

    def __init__(
        self,
        session: InteractiveSession,
        case: RawCase,
        classes: Classes,
        ignore_label: int | None,
        axis: int | None = None,
        window: str | tuple[float, float] = AUTO,
    ):
        self.session = session
        self.case = case
        self.classes = classes
        image, label = read_volume(case.image), read_volume(case.label)
        check_same_voxels(label, image)
        labels = label_map(label.array, case.label)
        self.image: Volume = session.set_image(image, window=window)
        self.axis = session.learned_axis if axis is None else axis
        self.counted = None if ignore_label is None else labels != ignore_label
        self.view = image.view(self.axis)
        self.gt: dict[int, np.ndarray] = {}
        for number, values in enumerate(classes.values(), start=1):
            mask = np.isin(labels, values)
            if mask.any():
                self.gt[number] = self.view.of(mask)

    @property
    def plane_spacing(self) -> tuple[float, float]:
        """Millimetres of a row and of a column of the slices."""
        _, row, column = (self.image.spacing[axis] for axis in self.view.order)
        return row, column

    def forget(self, number: int) -> None:
        """Remove an object with its prompts; the features of the slices stay."""
        if number in self.session.object_ids:
            self.session.remove_object(number)

    def click(self, number: int, index: int, click: Click) -> bool:
        """Add a click; False if SAM 2 saw no object and the session took the click back."""
        (voxel,) = self._voxels([(index, click.row, click.column)])
        return self._prompted(number, index, lambda: self.session.add_points([voxel], click.label, number, self.axis))

    def box(self, number: int, index: int, box: Box) -> bool:
        """Add a box; False if SAM 2 saw no object in it and the session took it back."""
        top, left, bottom, right = box
        first, last = self._voxels([(index, top, left), (index, bottom, right)])
        return self._prompted(number, index, lambda: self.session.add_box(first, last, number, self.axis))

    def recist(self, number: int, index: int, ends: np.ndarray) -> bool:
        """Add a RECIST measurement, ends (2, 2) or (4, 2); False if the session took its box back."""
        voxels = self._voxels([(index, row, column) for row, column in ends.tolist()])
        longest, across = voxels[:2], voxels[2:] or None
        return self._prompted(number, index, lambda: self.session.add_recist(longest, across, number, self.axis))

    def mask(self, number: int, index: int, mask: np.ndarray) -> bool:
        """Add the mask of a slice; False if the session refused it."""
        own = self.view.plane_back(mask)
        stored = self.view.slice_index(index, self.image.shape)
        return self._prompted(number, index, lambda: self.session.add_mask(own, stored, number, self.axis))

    def propagate(self, number: int, extent: tuple[int, int] | None = None) -> None:
        """Propagate an object, unless all of its prompts were taken back.

        Args:
            number: of the object.
            extent: first and last slice that the object is propagated to; None for all.
        """
        if any(prompt.object_id == number for prompt in self.session.prompts):
            stored = extent and sorted(self.view.slice_index(index, self.image.shape) for index in extent)
            self.session.propagate([number], self.axis, (stored[0], stored[1]) if stored else None)

    def found(self, number: int) -> np.ndarray:
        """Return the current mask of an object, bool, in the view, without ignored voxels."""
        if number not in self.session.object_ids:
            return np.zeros(self.view.shape(self.image.shape), dtype=bool)
        mask = self.session.mask(number)
        return self.view.of(mask if self.counted is None else mask & self.counted)

    def label_map(self, values: Sequence[int]) -> np.ndarray:
        """Return all objects on the image's grid as nnU-Net writes labels: later regions overwrite earlier ones.

        Args:
            values: value written for each class, or for each region in nnU-Net's order.
        """
        labels = np.zeros(self.image.shape, dtype=np.uint8 if max(values) < 256 else np.uint16)
        if all(len(own) == 1 for own in self.classes.values()):
            objects = self.session.labels()  # the more confident one where two overlap
            for number, value in enumerate(values, start=1):
                labels[objects == number] = value
            return labels
        for number, value in enumerate(values, start=1):
            if number in self.session.object_ids:
                labels[self.session.mask(number)] = value
        return labels

    def _prompted(self, number: int, index: int, add: Callable[[], object]) -> bool:
        try:
            add()
            self.session.predict_slice(number, self.axis, self.view.slice_index(index, self.image.shape))
        except PromptError:  # an empty slice, or SAM 2 sees nothing; the session took it back
            return False
        return True

    def _voxels(self, places: Sequence[tuple[float, float, float]]) -> list[list[float]]:
        """Convert places in the view to voxels (z, y, x)."""
        return self.view.points_back(np.array(places, dtype=float), self.image.shape).tolist()
