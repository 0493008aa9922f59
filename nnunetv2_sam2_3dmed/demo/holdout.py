"""Makes a task with held-out cases out of a task of the Medical Segmentation Decathlon (MSD).

    python -m nnunetv2_sam2_3dmed.demo.holdout FOLDER --data Task09_Spleen --held-out 4

MSD publishes no truth for its test images. So some of the training cases are held out instead: in the new
task they are the test images, and their truth lies in ``labelsTs``. The files themselves are only linked.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text

SEED = 20240
# nnU-Net splits the training cases into five folds, and each needs a case
FEWEST_TRAINING_CASES = 5


def labelled_cases(task: Path) -> list[str]:
    """File names of the training cases of the MSD task folder ``task`` that have an image and a label.

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


def split_cases(
    names: list[str], held_out: int, cases: int | None = None, seed: int = SEED
) -> tuple[list[str], list[str]]:
    """Chooses which cases are held out and which of the others are trained on.

    Args:
        names: all cases.
        held_out: number of cases to hold out.
        cases: at most so many training cases (default: all that are not held out).
        seed: of the choice; the held-out cases do not depend on ``cases``.

    Returns:
        Training cases and held-out cases, each sorted.

    Raises:
        UserError: too few cases remain.
    """
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    training = order[held_out:]
    if cases is not None:
        training = training[:cases]
    if len(training) < FEWEST_TRAINING_CASES:
        raise UserError(
            f"{len(training)} training cases remain of {len(names)} with {held_out} held out: nnU-Net's five "
            f"folds need at least {FEWEST_TRAINING_CASES}."
        )
    return sorted(training), sorted(order[:held_out])


def make_holdout_task(parent: Path, source: Path, held_out: int, cases: int | None = None) -> Path:
    """Writes a task folder of the same name as ``source`` into ``parent`` and returns it.

    Args:
        parent: folder for the task folder.
        source: MSD task folder; it is only read.
        held_out: number of its training cases that become test cases.
        cases: at most so many training cases.
    """
    training, test = split_cases(labelled_cases(source), held_out, cases)
    task = parent / source.name
    for split, names in (("Tr", training), ("Ts", test)):
        for kind in ("images", "labels"):
            folder = task / f"{kind}{split}"
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / name).symlink_to((source / f"{kind}Tr" / name).resolve())
    description = load_json(str(source / "dataset.json"))
    description |= {
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in training],
        "test": [f"./imagesTs/{name}" for name in test],
    }
    write_text(task / "dataset.json", json.dumps(description, indent=4))
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold out cases of an MSD task.")
    parser.add_argument("folder", type=Path, help="where the new task folder goes")
    parser.add_argument("--data", type=Path, required=True, help="MSD task folder")
    parser.add_argument("--held-out", type=int, default=4, help="cases to hold out (default: %(default)s)")
    parser.add_argument("--cases", type=int, help="at most so many training cases (default: all others)")
    args = parser.parse_args()
    print(f"wrote {make_holdout_task(args.folder, args.data, args.held_out, args.cases)}")


if __name__ == "__main__":
    main()
