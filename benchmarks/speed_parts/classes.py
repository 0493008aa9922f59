"""The cost of segmenting one patch into more and more classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from speed_parts.contenders import EncodesAnew, precisions
from speed_parts.plans import OURS, build_network, ct_like_volume, make_plans
from speed_parts.record import Run
from speed_parts.settings import Setting
from speed_parts.timing import Contender, measure

REPEATS = 5


class ForwardContender(Contender):
    """The network's forward pass on one patch, as prediction runs it, with nothing known from before."""

    def __init__(self, setting: Setting, classes: int):
        size = setting.classes_image_size
        self.name, self.words = str(classes), f"{classes} classes"
        plans = make_plans(setting, size, classes)
        # these branches do not run in prediction
        plans["configurations"][OURS]["architecture"]["arch_kwargs"].update(srpp=False, boundary=False)
        self.network = build_network(plans, OURS, classes)
        self.network.slice_cache = EncodesAnew()
        self.precision, self.trunk = self.network.precision, self.network.encoder.trunk
        self.input: torch.Tensor | None = None
        self.patch = ct_like_volume((setting.patch_slices, size, size))

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        self.input = self.patch[None].to(device)

    @torch.inference_mode()
    def run(self) -> torch.Tensor:
        return self.network(self.input)

    def release(self) -> None:
        super().release()
        self.input = None


def measure_classes(run: Run) -> Iterator[dict[str, Any]]:
    """Seconds and operations by number of classes, and each against the smallest."""
    contenders = [ForwardContender(run.setting, classes) for classes in run.setting.classes]
    repeats = min(REPEATS, run.setting.repeats)
    measured = measure(contenders, run.device, repeats, run.deadline)
    size = run.setting.classes_image_size
    records = {name: m.record() for name, m in measured.items()}
    least = records[str(run.setting.classes[0])]
    for record in records.values():
        for entry in ("median_seconds", "gflop"):
            if record.get(entry) and least.get(entry):
                record[f"{entry}_ratio"] = round(record[entry] / least[entry], 4)
    precision = precisions(run.device)[-1]  # what the network chooses
    yield {"precision": precision, "patch": [run.setting.patch_slices, size, size], "by_classes": records}
