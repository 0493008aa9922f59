"""The share of a training iteration in which the device waits for data."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json, read_plans
from speed_parts.plans import FULLRES, OURS
from speed_parts.record import Run
from speed_parts.timing import synchronize
from speed_parts.training import SAM2_3dMedTrainer_withoutFile

KEPT = 4  # batches that are in memory
STEPS = {"cpu": 6, "cuda": 40}  # per turn
TURNS = 3
WARM_UP = 4  # steps after which the workers have filled their queues


def measure_loading(run: Run) -> Iterator[dict[str, Any]]:
    """Seconds per iteration with batches from memory and with the trainer's own loader, for both trainers."""
    if run.dataset is None:
        yield {"skipped": "needs --dataset: a preprocessed dataset of nnU-Net's with the configuration 3d"}
        return
    name, result = convert_id_to_dataset_name(run.dataset), {}
    contenders = (("ours", SAM2_3dMedTrainer_withoutFile, OURS), ("nnunet_3d_fullres", nnUNetTrainer, FULLRES))
    for contender, trainer_class, configuration in contenders:
        result[contender] = compare_loading(trainer_class, name, configuration, run)
        yield {"dataset": name, **result}


def compare_loading(trainer_class: type, dataset: str, configuration: str, run: Run) -> dict[str, Any]:
    """Takes turns between the two; the loader's workers go on in both, and fill their queues meanwhile."""
    plans = read_plans(dataset, "nnUNetPlans")[1]
    with tempfile.TemporaryDirectory() as results, mock.patch.dict(os.environ, nnUNet_results=str(Path(results))):
        with redirect_stdout(io.StringIO()):
            trainer = trainer_class(
                {**plans, "continue_training": False}, configuration, 0, load_dataset_json(dataset), run.device
            )
            trainer.on_train_start()
        try:
            trainer.network.train()
            kept = [next(trainer.dataloader_train) for _ in range(KEPT)]
            for batch in kept[:WARM_UP]:
                trainer.train_step(batch)
            steps, memory, loader = STEPS[run.device.type], [], []
            for turn in range(TURNS):
                if turn > 0 and not run.deadline.allows():
                    break
                memory.append(seconds_per_step(trainer, lambda i: kept[i % KEPT], steps, run))
                # what the workers prepared during the turn before is used up first
                seconds_per_step(trainer, lambda _: next(trainer.dataloader_train), 2 * KEPT, run)
                loader.append(seconds_per_step(trainer, lambda _: next(trainer.dataloader_train), steps, run))
        finally:
            for loaders in (trainer.dataloader_train, trainer.dataloader_val):
                if hasattr(loaders, "_finish"):
                    loaders._finish()
    return {
        "patch": list(trainer.configuration_manager.patch_size),
        "batch": trainer.configuration_manager.batch_size,
        "seconds_per_iteration_from_memory": round(median(memory), 5),
        "seconds_per_iteration_with_loader": round(median(loader), 5),
        "idle_share": round(1 - median(memory) / median(loader), 4),
        "turns": {"from_memory": [round(s, 5) for s in memory], "with_loader": [round(s, 5) for s in loader]},
        "steps_per_turn": steps,
    }


def seconds_per_step(trainer: Any, batch: Callable[[int], dict], steps: int, run: Run) -> float:
    """The mean over ``steps`` iterations, getting the batches included."""
    synchronize(run.device)
    begun = perf_counter()
    for i in range(steps):
        trainer.train_step(batch(i))
    synchronize(run.device)
    return (perf_counter() - begun) / steps
