"""The results file, to which each part is added as soon as it is there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.report.measure import device_name
from speed_parts.settings import Setting
from speed_parts.timing import Deadline


@dataclass
class Run:
    """Settings that all parts receive.

    Attributes:
        setting: sizes and repetitions.
        device: where to measure.
        rates: operations per second of matrix products, by precision; empty where they were not measured.
        deadline: when nothing new is begun.
        dataset: nnU-Net's number of a dataset, for the part that loads data; None without one.
    """

    setting: Setting
    device: torch.device
    rates: dict[str, float] = field(default_factory=dict)
    deadline: Deadline = field(default_factory=Deadline)
    dataset: int | None = None

    def share_of_rate(self, flop_per_second: float, precision: str) -> float | None:
        """Share of the rate of matrix products in this precision."""
        rate = self.rates.get(precision.split()[0])
        return None if rate is None else round(flop_per_second / rate, 4)


class Record:
    """Results by part; each part says on which machine and with which setting it was measured.

    Args:
        file: JSON; parts of an earlier run stay in it until they are measured again.
    """

    def __init__(self, file: Path):
        self.file = file
        self.parts: dict[str, Any] = read_json(file)["parts"] if file.is_file() else {}

    def put(self, part: str, result: dict[str, Any], run: Run, notes: list[str]) -> None:
        """Replace a part, on disk too."""
        self.parts[part] = {
            "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(run.device),
            "notes": notes,
            "setting": asdict(run.setting),
            "result": result,
        }
        write_text(self.file, json.dumps({"parts": self.parts}, indent=1) + "\n")

    def result(self, part: str) -> dict[str, Any] | None:
        """Results of a part so far."""
        return self.parts[part]["result"] if part in self.parts else None


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions, and what else the machine was doing."""
    facts = software_and_machine()
    facts["versions"] |= {"torch": torch.__version__, "sam2": version("sam2")}
    facts["device"] = device_name(device)
    if device.type == "cuda":
        facts["versions"]["cuda"] = torch.version.cuda
        facts["gpu_memory_gib"] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    if hasattr(os, "getloadavg"):
        facts["load_average"] = round(os.getloadavg()[0], 2)
    return facts
