"""Dice with and without the first and last slice that a user names, with a model trained here, and voxels outside.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/extents.py -o FOLDER --minutes 45 -device cpu --image-size 96 --patch-size 56 40 --slices 6 \
        --batch-size 4

Folds keep both sides of a subject together. The training is that of prompt_training.py and correction_training.py with
the same FOLDER, which must then be given the same options; it is not repeated. Each object of the validation cases is
prompted with the box and with the mask of its middle slice, with its extent and without.

Runs stock commands in nnU-Net folders under FOLDER, prints each, skips finished ones (an interrupted training continues
with --c), and writes benchmarks/results/extents_MINUTESmin_DEVICE.json and .md. Exits with an error if a voxel lies
outside a named extent in the masks that are written, in which an object can hide voxels of another one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from case_groups import gain_note, gain_texts
from equal_time import DATASET, machine
from prompted_runs import FINAL, add_options, facts_of, measure, origin, prepare, training_of, write

from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, number, text_rows
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import extent_of

PAIRS = (("box", "box_within"), ("1_mask", "1_mask_within"))
ENDING = ".nii.gz"


def outside(found: np.ndarray, gt: np.ndarray) -> int:
    """Count the voxels of each label that lie before its first or behind its last slice in the ground truth.

    Args:
        found: label map (slices, rows, columns).
        gt: ground truth of the same shape.
    """
    count = 0
    for label in np.unique(gt[gt > 0]):
        first, last = extent_of(gt == label)
        own = found == label
        count += int(own[:first].sum() + own[last + 1 :].sum())
    return count


def voxels_outside(masks: Path, axis: int) -> dict[str, int]:
    """Return the voxels outside by case, of the masks that ``prompt-benchmark`` wrote."""
    labels = nnunet_folder("nnUNet_raw") / DATASET / "labelsTr"
    counts = {}
    for file in sorted(masks.glob(f"[!.]*{ENDING}")):
        found, gt = (np.moveaxis(read_volume(one).array, axis, 0) for one in (file, labels / file.name))
        counts[file.name.removesuffix(ENDING)] = outside(found, gt)
    return counts


def comparison(scores: pd.DataFrame, counts: dict[str, dict[str, int]]) -> Table:
    """Return the table, a row per prompt."""
    rows = []
    for free, within in PAIRS:
        dice = {
            name: scores[(scores["protocol"] == name) & (scores["slices"] == "all")].groupby("case")["dice"].mean()
            for name in (free, within)
        }
        texts = [free.replace("_", " ")]
        for name in (free, within):
            one = Statistic.of(dice[name])
            median = f"{number(one.median, 4)} ({number(one.q1, 4)} to {number(one.q3, 4)})"
            texts += [number(one.mean, 4), median, str(sum(counts[name].values()))]
        rows.append([*texts, *gain_texts(dice[within] - dice[free], 4)])
    columns = ["prompt on the middle slice"]
    for name in ("without", "with"):
        columns += [f"{name}: mean Dice", f"{name}: median (quartiles)", f"{name}: voxels outside"]
    note = (
        "with and without naming the first and the last slice of the object; Dice over all slices, of each object by "
        "itself, of a case the mean over its objects; voxels of all cases that lie outside of these slices, counted in "
        "the label maps that are written, in which an object can hide voxels of another one. Difference: with minus "
        f"without, {gain_note(pd.Index(scores['case'].unique()))}"
    )
    return Table("First and last slice", [*columns, "difference", "p"], text_rows(rows), note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    args = parser.parse_args()
    work = prepare(args)
    training = training_of(args.trainer, args.minutes, seed=0)
    work.train_all([training], keep=True)
    fold = work.fold_folder(training)
    output = fold / "extents"
    benchmark = measure(work.with_all_cores(), training, output, args, *(name for pair in PAIRS for name in pair))
    axis = load_checkpoint(fold / FINAL)["init_args"][PROMPTED]["shown_as"]["axis"]
    counts = {name: voxels_outside(output / name, axis) for pair in PAIRS for name in pair}
    text = as_markdown(comparison(pd.read_csv(output / "per_case.csv"), counts)) + "\n"
    report = {
        "budget_minutes": args.minutes,
        "trainings_at_a_time": args.jobs,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": work.commands,
        "training": facts_of(work, training),
        "benchmark": benchmark,
        "voxels_outside": {name: sum(by_case.values()) for name, by_case in counts.items()},
    }
    text += origin(training, report["machine"], args)
    name = f"extents_{args.minutes}min_{args.device}"
    write(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n", work)
    write(args.results / f"{name}.md", text, work)
    print(text)
    if any(sum(counts[within].values()) for _, within in PAIRS):
        sys.exit("voxels lie outside of slices that were named")


if __name__ == "__main__":
    main()
