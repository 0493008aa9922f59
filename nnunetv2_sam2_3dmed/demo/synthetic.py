"""Writes a synthetic CT task in the Medical Segmentation Decathlon's (MSD) layout.

    python -m nnunetv2_sam2_3dmed.demo.synthetic FOLDER --cases 24 --test-cases 4

The task is small enough to train on a laptop, and made of random shapes: it shows how the commands work
together, and says nothing about how well a method does on patients.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.demo.phantom import CLASS_NAMES, Phantom, make_phantom
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array, write_volume

TASK_NAME = "Task90_SyntheticCT"
SEED = 20240
# every fifth case is without lesion
LESION_FREE_EVERY = 5


def synthetic_case(index: int, seed: int = SEED) -> Phantom:
    """Case number ``index`` (from 0): the same for the same seed, however many cases there are."""
    with_lesion = index % LESION_FREE_EVERY != LESION_FREE_EVERY - 1
    return make_phantom(np.random.default_rng([seed, index]), with_lesion)


def make_synthetic_task(parent: Path, cases: int = 24, test_cases: int = 4, seed: int = SEED) -> Path:
    """Writes the task folder ``Task90_SyntheticCT`` into ``parent`` and returns it.

    Args:
        parent: folder for the task folder.
        cases: number of training cases (imagesTr, labelsTr).
        test_cases: number of held-out cases (imagesTs, and their truth in labelsTs, which MSD keeps secret).
        seed: of all randomness.
    """
    task = parent / TASK_NAME
    training: list[str] = []
    test: list[str] = []
    for index in range(cases + test_cases):
        split, files = ("Tr", training) if index < cases else ("Ts", test)
        name = f"synthetic_{index + 1:03d}.nii.gz"
        _write_case(synthetic_case(index, seed), task, split, name)
        files.append(name)
    description = {
        "name": "SyntheticCT",
        "description": "Synthetic CT, no patient: two organs of different texture, and lesions",
        "reference": "made by `sam2_3dmed demo`",
        "licence": "CC0-1.0",
        "release": f"seed {seed}",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in CLASS_NAMES.items()},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in training],
        "test": [f"./imagesTs/{name}" for name in test],
    }
    write_text(task / "dataset.json", json.dumps(description, indent=4))
    return task


def _write_case(case: Phantom, task: Path, split: str, name: str) -> None:
    for kind, array in (("images", case.image), ("labels", case.label)):
        write_volume(task / f"{kind}{split}" / name, volume_from_array(array, case.spacing))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic CT task in MSD's layout.")
    parser.add_argument("folder", type=Path, help="where the task folder goes")
    parser.add_argument("--cases", type=int, default=24, help="training cases (default: %(default)s)")
    parser.add_argument("--test-cases", type=int, default=4, help="held-out cases (default: %(default)s)")
    args = parser.parse_args()
    print(f"wrote {make_synthetic_task(args.folder, args.cases, args.test_cases)}")


if __name__ == "__main__":
    main()
