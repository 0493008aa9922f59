"""Training steps of our trainer and of nnU-Net's, on batches that are in memory already."""

from __future__ import annotations

import copy
import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import network_defaults
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_sam2_3dmed.network.precision import has_native_bfloat16
from nnunetv2_sam2_3dmed.training.cuda_graph import STEPS_UNTIL_REPLAYED
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from speed_parts.plans import FULLRES, OURS, dataset_json, make_plans
from speed_parts.record import Run
from speed_parts.timing import PeakMemory, synchronize

NNUNET = "nnunet_3d_fullres"
CLASSES = 1  # spleen


class SAM2_3dMedTrainer_withoutFile(SAM2_3dMedTrainer):
    """Random weights in a frozen trunk: a step costs what it does with SAM 2's."""

    pretrained = False


class SAM2_3dMedTrainer_withoutGraph(SAM2_3dMedTrainer_withoutFile):
    """Each operation of a step is launched by itself, or what torch.compile makes of them."""

    def can_be_graphed(self) -> bool:
        return False


class SAM2_3dMedTrainer_lowMemoryWithoutFile(SAM2_3dMedTrainer_withoutFile):
    """Less memory: what the backward pass needs is computed a second time."""

    architecture_changes = {"activation_checkpointing": True}


def measure_training(run: Run) -> Iterator[dict[str, Any]]:
    """Seconds, peak memory and operations of a training step, in turns."""
    setting, device = run.setting, run.device
    plans = make_plans(setting, setting.training_image_size, CLASSES, setting.training_nnunet_batch)
    contenders: list[tuple[str, type, str, str | None]] = [
        ("ours", SAM2_3dMedTrainer_withoutFile, OURS, None),
        (NNUNET, nnUNetTrainer, FULLRES, None),
    ]
    if "activation_checkpointing" in network_defaults():
        contenders.insert(1, ("ours_low_memory", SAM2_3dMedTrainer_lowMemoryWithoutFile, OURS, None))
    if device.type == "cuda":  # nnU-Net compiles its network there unless it is told not to
        contenders.append((f"{NNUNET}_not_compiled", nnUNetTrainer, FULLRES, "f"))
        contenders.append(("ours_compiled", SAM2_3dMedTrainer_withoutGraph, OURS, "t"))
        contenders.append(("ours_not_compiled", SAM2_3dMedTrainer_withoutGraph, OURS, "f"))
    trainers: dict[str, Any] = {}
    batches, result, seconds = {}, {}, {}
    for name, trainer_class, configuration, compiled in contenders:
        try:
            with PeakMemory(device) as peak:
                trainer = start(trainer_class, plans, configuration, device, compiled)
                batch = random_batch(trainer)
                for _ in range(STEPS_UNTIL_REPLAYED if device.type == "cuda" else 1):
                    trainer.train_step(batch)
        except Exception as error:  # too little memory for one is no reason to leave out the other
            result[name] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            yield result
            continue
        trainers[name], batches[name], seconds[name] = trainer, batch, []
        size = trainer.configuration_manager.batch_size
        result[name] = {
            "trainer": next(c.__name__ for c in type(trainer).__mro__ if c.__module__ != __name__),
            "patch": list(trainer.configuration_manager.patch_size),
            "batch": size,
            "precision": precision_of(trainer, device),
            "compiled": hasattr(trainer.network, "_orig_mod"),
            "peak_mib": None if peak.bytes is None else round(peak.bytes / 2**20),
            "gflop": round(count_step(plans, configuration) * size / 1e9, 1),
        }
        yield result
    for number in range(setting.training_repeats):
        if number > 0 and not run.deadline.allows():
            break
        for name, trainer in trainers.items():
            synchronize(device)
            begun = perf_counter()
            trainer.train_step(batches[name])
            synchronize(device)
            seconds[name].append(perf_counter() - begun)
    for name in trainers:
        result[name] |= rates_of(result[name], seconds[name], run)
        if name != "ours" and "ours" in trainers:
            ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
            result.setdefault("ratios", {})[f"{name} : ours"] = round(median(ratios), 3)
    yield result


def rates_of(facts: dict[str, Any], seconds: list[float], run: Run) -> dict[str, Any]:
    """Seconds of a step, and what is derived from them."""
    step = median(seconds)
    voxels = facts["batch"] * math.prod(facts["patch"])
    rate = facts["gflop"] * 1e9 / step
    return {
        "median_seconds": round(step, 5),
        "seconds": [round(s, 5) for s in seconds],
        "million_voxels_per_second": round(voxels / step / 1e6, 4),
        "tflop_per_second": round(rate / 1e12, 4),
        "share_of_matrix_rate": run.share_of_rate(rate, facts["precision"]),
    }


def precision_of(trainer: Any, device: torch.device) -> str:
    """Measurements of a trainer's step."""
    if isinstance(trainer, SAM2_3dMedTrainer):
        return "bfloat16" if has_native_bfloat16(device) else "float32"
    return "float16 autocast" if device.type == "cuda" else "float32"


@contextmanager
def folders_without_data(plans: dict[str, Any], configuration: str) -> Iterator[None]:
    """nnU-Net's folders, temporary, with as much in them as a trainer wants to see before it trains."""
    identifier = PlansManager(plans).get_configuration(configuration).data_identifier
    with tempfile.TemporaryDirectory() as folder:
        names = {name: str(Path(folder) / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        preprocessed = Path(names["nnUNet_preprocessed"], plans["dataset_name"], identifier)
        preprocessed.mkdir(parents=True)
        (preprocessed / "case.b2nd").touch()  # the format is told by the ending
        with mock.patch.dict(os.environ, names):
            yield


def start(
    trainer_class: type, plans: dict[str, Any], configuration: str, device: torch.device, compiled: str | None = None
) -> Any:
    """A trainer that is ready for its first step; ``compiled`` is what nnU-Net reads from ``nnUNet_compile``."""
    arguments = {**copy.deepcopy(plans), "continue_training": False}
    told = {} if compiled is None else {"nnUNet_compile": compiled}
    with (
        folders_without_data(plans, configuration),
        mock.patch.dict(os.environ, told),
        redirect_stdout(io.StringIO()),
    ):
        trainer = trainer_class(arguments, configuration, 0, dataset_json(CLASSES), device)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return trainer


def random_batch(trainer: Any) -> dict[str, Any]:
    """A batch as the trainer's data loader gives it: noise, of which what is bright is the organ."""
    configuration = trainer.configuration_manager
    data = torch.randn(configuration.batch_size, 1, *configuration.patch_size)
    smooth = F.avg_pool3d(data, kernel_size=(1, 7, 7), stride=1, padding=(0, 3, 3))
    target = (smooth > 0.1).to(torch.int16)
    scales = trainer._get_deep_supervision_scales()
    if scales is None:
        return {"data": data, "target": target}
    sizes = [[round(n * s) for n, s in zip(configuration.patch_size, scale, strict=True)] for scale in scales]
    targets = [F.interpolate(target.float(), size=size, mode="nearest").to(torch.int16) for size in sizes]
    return {"data": data, "target": targets}


def count_step(plans: dict[str, Any], configuration: str) -> int:
    """Operations of the network's forward and backward pass on one patch; losses and optimizer have next to none.

    Counted with tensors that have no values, in a network of its own. What a trainer computes twice counts once.
    """
    manager = PlansManager(plans).get_configuration(configuration)
    plain = nnUNetTrainer if configuration == FULLRES else SAM2_3dMedTrainer
    network: nn.Module = plain.build_network_architecture(
        PlansManager(plans), manager, 1, CLASSES + 1, enable_deep_supervision=configuration == FULLRES
    ).train()
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        outputs = network(torch.zeros(1, 1, *manager.patch_size))
        sum(output.float().sum() for output in outputs if output is not None).backward()
    return int(counter.get_total_flops())
