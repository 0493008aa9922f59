"""A bad input: how it is made and given to the project, and the expected sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

DATASET = "Dataset301_Tiny"
CASES = [f"case_{number:02d}" for number in range(6)]
SHAPE = (7, 40, 48)
SPACING = (3.0, 0.8, 0.5)  # z, y, x
UNET = "nnUNetTrainer__nnUNetPlans__3d_fullres"
OURS = "SAM2_3dMedTrainer__nnUNetPlans__3d"


@dataclass(frozen=True)
class Place:
    """The folder in which an input is made and the command runs.

    Attributes:
        folder: empty at first, the working directory.
        rng: seeded by the row's name.
        model: a checkpoint in SAM 2's format with random weights, outside of ``folder``.
    """

    folder: Path
    rng: np.random.Generator
    model: Path

    def write(self, name: str, content: str | bytes | dict | list) -> Path:
        """A file of text, bytes or JSON; its folders are made."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (dict, list)):
            content = json.dumps(content)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def image(
        self,
        name: str,
        array: np.ndarray | None = None,
        spacing: Sequence[float] = SPACING,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Path:
        """An image file; by default a CT of noise. Spacing is z, y, x, the origin x, y, z."""
        if array is None:
            array = self.rng.integers(-1000, 1000, size=SHAPE).astype(np.int16)
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(value) for value in spacing[::-1]][: array.ndim])
        image.SetOrigin([float(value) for value in origin][: array.ndim])
        sitk.WriteImage(image, str(file))
        return file

    def mask(self, name: str, label: float = 1, dtype: Any = np.uint8, **geometry: Any) -> Path:
        """A segmentation with one block."""
        array = np.zeros(SHAPE, dtype=dtype)
        array[2:5, 10:30, 12:33] = label
        return self.image(name, array, **geometry)

    def dataset(self, **changes: Any) -> Path:
        """nnU-Net's folders with a raw dataset of six cases; ``changes`` of dataset.json, None takes a key out."""
        raw = self.folder / "nnUNet_raw" / DATASET
        for case in CASES:
            self.image(f"nnUNet_raw/{DATASET}/imagesTr/{case}_0000.nii.gz")
            self.mask(f"nnUNet_raw/{DATASET}/labelsTr/{case}.nii.gz")
        content = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "organ": 1},
            "numTraining": len(CASES),
            "file_ending": ".nii.gz",
            **changes,
        }
        content = {key: value for key, value in content.items() if value is not None}
        for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
            self.write(f"{folder}/{DATASET}/dataset.json", content)
        (self.folder / "nnUNet_results" / DATASET).mkdir(parents=True, exist_ok=True)
        return raw

    def preprocessed(self, **changes: Any) -> Path:
        """The same with plans, folds and ground truth, as nnU-Net's preprocessing leaves them."""
        self.dataset(**changes)
        name = f"nnUNet_preprocessed/{DATASET}"
        for case in CASES:
            self.mask(f"{name}/gt_segmentations/{case}.nii.gz")
        self.write(f"{name}/splits_final.json", [{"train": CASES[2:], "val": CASES[:2]}])
        self.write(f"{name}/nnUNetPlans.json", plans())
        return self.folder / name

    def validated(self, method: str = UNET, fold: int = 0, **geometry: Any) -> Path:
        """Validation predictions of a method; the dataset is there already."""
        name = f"nnUNet_results/{DATASET}/{method}/fold_{fold}/validation"
        for case in CASES[:2]:
            self.mask(f"{name}/{case}.nii.gz", **geometry)
        self.write(f"{name}/summary.json", {"metric_per_case": []})
        return self.folder / name


def plans() -> dict[str, Any]:
    """nnU-Net's plans of the dataset, as far as commands read them."""
    fullres = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [4, 40, 48],
        "median_image_size_in_voxels": list(SHAPE),
        "spacing": list(SPACING),
        "normalization_schemes": ["CTNormalization"],
        "batch_dice": False,
        "architecture": {"network_class_name": "x.PlainConvUNet", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": fullres},
    }


# what is given to the project: words of a command line, or a call that must raise UserError
Given = Sequence[object] | Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A bad input.

    Attributes:
        name: of the row, unique in its table.
        make: makes the input in a place, and returns the command line without ``sam2_3dmed``, or a call of the Python
            interface.
        says: what the sentence must contain; ``{folder}`` stands for the place's folder.
        writes: patterns of new files that may be there afterwards; by default none.
        environment: variables, beside those of nnU-Net's folders, which are subfolders of the place; None unsets one.
    """

    name: str
    make: Callable[[Place], Given]
    says: tuple[str, ...]
    writes: tuple[str, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)


def said(*words: str) -> tuple[str, ...]:
    """Text in one line, for a readable row."""
    return words


def path_of(file: Path) -> str:
    """A file as the command line names it."""
    return os.fspath(file)
