"""Write the demo's task in the layout of the Medical Segmentation Decathlon (MSD).

    python -m nnunetv2_sam2_3dmed.experiments.demo_task FOLDER --cases 24
    python -m nnunetv2_sam2_3dmed.experiments.demo_task FOLDER --data Task09_Spleen --cases 24

Without --data the cases are synthetic CT: small enough to train on a laptop, and made of random shapes. They show how
the commands work together, and say nothing about how well a method does on patients. With --data they are linked
training cases of a task.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.phantom import CLASS_NAMES, Phantom, make_phantom
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array, write_volume

TASK_NAME = "Task90_SyntheticCT"
SYNTHETIC_CASES = 24
SEED = 20240
# every fifth synthetic case is without lesion
LESION_FREE_EVERY = 5
# nnU-Net splits the cases into five folds, and each needs a case
FEWEST_CASES = 5


def synthetic_case(index: int, seed: int = SEED) -> Phantom:
    """Return case number ``index`` (from 0): the same for the same seed, however many cases there are."""
    with_lesion = index % LESION_FREE_EVERY != LESION_FREE_EVERY - 1
    return make_phantom(np.random.default_rng([seed, index]), with_lesion)


def make_synthetic_task(parent: Path, cases: int = SYNTHETIC_CASES, seed: int = SEED) -> Path:
    """Write the task folder ``Task90_SyntheticCT`` with ``cases`` cases into ``parent`` and return it."""
    task = parent / TASK_NAME
    names = [f"synthetic_{index + 1:03d}.nii.gz" for index in range(cases)]
    for index, name in enumerate(names):
        case = synthetic_case(index, seed)
        for kind, array in (("images", case.image), ("labels", case.label)):
            write_volume(task / f"{kind}Tr" / name, volume_from_array(array, case.spacing))
    description = {
        "name": "SyntheticCT",
        "description": "Synthetic CT, no patient: two organs of different texture, and lesions",
        "reference": "made by `sam2_3dmed demo`",
        "licence": "CC0-1.0",
        "release": f"seed {seed}",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in CLASS_NAMES.items()},
    }
    _write_description(task, description, names)
    return task


def labelled_cases(task: Path) -> list[str]:
    """Return the file names of the training cases of an MSD task folder that have an image and a label.

    Raises:
        UserError: ``task`` is not an MSD task folder.
    """
    if not re.fullmatch(r"Task\d+_[^_]+", task.name):
        raise UserError(f"{task}: expected a folder of the Medical Segmentation Decathlon, named like Task09_Spleen.")
    for needed in ("dataset.json", "imagesTr", "labelsTr"):
        if not (task / needed).exists():
            raise UserError(f"{task} has no {needed}: expected a task in the Medical Segmentation Decathlon's layout.")
    labels = {path.name for path in (task / "labelsTr").glob("[!._]*.nii.gz")}
    return sorted(path.name for path in (task / "imagesTr").glob("[!._]*.nii.gz") if path.name in labels)


def count_cases(data: Path | None, cases: int | None) -> int:
    """Return the number of cases of the demo's task.

    Args:
        data: MSD task folder; None for synthetic cases.
        cases: ``--cases``; None for all, or 24 synthetic ones.

    Raises:
        UserError: ``data`` is no MSD task folder, or there are too few cases for nnU-Net's five folds.
    """
    available = None if data is None else len(labelled_cases(data))
    count = SYNTHETIC_CASES if cases is None else cases
    if available is not None:
        count = available if cases is None else min(available, cases)
    if count < FEWEST_CASES:
        given = f"{data} has {count} labelled cases" if count == available else f"--cases {count}"
        raise UserError(f"{given}, expected at least {FEWEST_CASES}, one for each of nnU-Net's five folds.")
    return count


def link_task(parent: Path, source: Path, cases: int) -> Path:
    """Write a task folder with links to some training cases of an MSD task, and no test images.

    Args:
        parent: folder for the task folder, which is named as ``source``.
        source: MSD task folder; it is only read.
        cases: number of cases, drawn at random, always the same ones.

    Returns:
        The new task folder.
    """
    names = labelled_cases(source)
    order = np.random.default_rng(SEED).permutation(len(names))
    chosen = sorted(names[i] for i in order[:cases])
    task = parent / source.name
    for kind in ("imagesTr", "labelsTr"):
        (task / kind).mkdir(parents=True, exist_ok=True)
        for name in chosen:
            (task / kind / name).symlink_to((source / kind / name).resolve())
    _write_description(task, read_json(source / "dataset.json"), chosen)
    return task


def _write_description(task: Path, description: dict, names: Sequence[str]) -> None:
    (task / "imagesTs").mkdir(exist_ok=True)  # nnU-Net's conversion asks for the folder
    description |= {
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    write_text(task / "dataset.json", json.dumps(description, indent=4))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo's task in MSD's layout.")
    parser.add_argument("folder", type=Path, help="where the task folder goes")
    parser.add_argument("--data", type=Path, help="MSD task folder (default: synthetic CT)")
    parser.add_argument("--cases", type=int, help="number of cases (default: all, or 24 synthetic ones)")
    args = parser.parse_args()
    cases = count_cases(args.data, args.cases)
    task = make_synthetic_task(args.folder, cases) if args.data is None else link_task(args.folder, args.data, cases)
    print(f"wrote {task}")


if __name__ == "__main__":
    main()
