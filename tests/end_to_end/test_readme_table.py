"""The README's table of trainers: each is found, builds, trains, saves, and predicts in a new process."""

import re
import shutil
from pathlib import Path

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import numpy as np
import torch

from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from tests.end_to_end.conftest import DATASET, SHAPE, read_volume

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).with_name("walk_trainers.py"))
ROW = re.compile(
    r"^\|.*\| `(?P<trainer>SAM2_\w+)` \| `nnUNetv2_train \d (?P<configuration>\w+) 0 -tr (?P<named>\w+)` \|$"
)


def test_every_row_trains_and_predicts(preprocessed, tmp_path):
    rows = [match for line in (ROOT / "README.md").read_text().splitlines() if (match := ROW.match(line))]
    assert all(row["trainer"] == row["named"] for row in rows)
    trainers = {row["trainer"]: row["configuration"] for row in rows}
    assert set(trainers) == {n for n in found_by_nnunet.__all__ if n.startswith(("SAM2_3dMed", "SAM2_Finetune"))}

    preprocessed.run(*("sam2_3dmed", "plan", "-d", "301", "--image-size", "32", "--slices", "4", "--batch-size", "2"))
    for name in ("sam2.1_hiera_tiny", MEDSAM2):
        torch.save({"model": build_sam2_base("sam2.1_hiera_tiny", 64).state_dict()}, tmp_path / f"{name}.pt")
        preprocessed.run("sam2_3dmed", "weights", str(tmp_path / f"{name}.pt"), "--as", name)
    pairs = [f"{configuration}:{trainer}" for trainer, configuration in trainers.items()]
    image = preprocessed.root / "nnUNet_raw" / DATASET / "imagesTs" / "test_00_0000.nii.gz"
    weights, away = preprocessed.root / "weights", preprocessed.root / "weights_away"
    for some in (pairs[start : start + 7] for start in range(0, len(pairs), 7)):  # a few gigabytes at a time
        preprocessed.run("python", SCRIPT, "train", "301", *some)
        weights.rename(away)  # predicting must not need them
        preprocessed.run("python", SCRIPT, "predict", DATASET, str(image), str(tmp_path), *some, cwd=tmp_path)
        away.rename(weights)
        shutil.rmtree(preprocessed.root / "nnUNet_results" / DATASET)
    for trainer in trainers:
        segmentation = read_volume(tmp_path / f"{trainer}.nii.gz")
        assert segmentation.shape == SHAPE and np.isin(segmentation, [0, 1, 2]).all()
