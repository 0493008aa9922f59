"""Trainers that know their fold's cases, without images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
import torch
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.plans.test_planner import DATASET, make_plans


class CasesOnly:
    """Stand-in for nnU-Net's dataset classes; like them, it sorts the list that it is given."""

    def __init__(self, folder: str, identifiers: list[str], folder_with_segs_from_previous_stage: str | None = None):
        identifiers = [] if identifiers is None else identifiers
        identifiers.sort()
        self.identifiers = identifiers


@pytest.fixture
def make_trainer(tmp_path, monkeypatch) -> Callable[..., SAM2_3dMedTrainer]:
    """A trainer of fold 0 with these cases and batches of this size."""

    def make(
        trainer: type[SAM2_3dMedTrainer], train: Sequence[str], val: Sequence[str], batch_size: int = 4
    ) -> SAM2_3dMedTrainer:
        for folder in ("preprocessed", "results"):
            monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
        plans = {**make_plans(), "continue_training": False}
        options = PlanOptions(image_size=64, slices=4, patch_size=(24, 20), batch_size=batch_size)
        add_configurations(plans, DATASET, options)
        dataset = tmp_path / "preprocessed" / plans["dataset_name"]
        dataset.mkdir(parents=True)
        (dataset / "splits_final.json").write_text(json.dumps([{"train": list(train), "val": list(val)}]))
        made = trainer(plans, "3d", 0, DATASET, torch.device("cpu"))
        made.dataset_class = CasesOnly
        return made

    return make
