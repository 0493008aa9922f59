"""Devices of this machine; one run at a time is trained on each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """A CPU or GPU.

    Attributes:
        name: ``cpu`` or ``cuda:N``.
        environment: the variables with which a child process sees this device alone.
    """

    name: str
    environment: dict[str, str]

    @property
    def kind(self) -> str:
        """nnU-Net's ``-device``."""
        return self.name.split(":")[0]


def find_devices(names: Sequence[str] | None, count: int) -> list[Device]:
    """Return the devices that the user named; by default all GPUs, or the CPU if there is none.

    Args:
        names: ``cpu`` or ``cuda:N``, N counting the GPUs that this process sees; None for all.
        count: number of GPUs that this process sees.

    Raises:
        UserError: there is no such device, or one is named twice.
    """
    there = [f"cuda:{number}" for number in range(count)]
    chosen = list(names) if names else there or ["cpu"]
    for name in chosen:
        if name not in [*there, "cpu"]:
            raise UserError(f"--devices {name}: expected cpu{''.join(', ' + n for n in there)}; name one of these.")
        if chosen.count(name) > 1:
            raise UserError(f"--devices {name} is there twice, expected each once: one run at a time is on a device.")
    return [Device(name, {} if name == "cpu" else {VISIBLE: _visible(int(name[len("cuda:") :]))}) for name in chosen]


def count_gpus() -> int:
    """Return the number of GPUs that this process sees."""
    import torch  # asks the driver without taking memory on a GPU

    return torch.cuda.device_count()


def _visible(number: int) -> str:
    """Return a child's CUDA_VISIBLE_DEVICES for the GPU ``number``, which counts the entries of this process's."""
    entries = [entry.strip() for entry in os.environ.get(VISIBLE, "").split(",") if entry.strip()]
    return entries[number] if entries else str(number)
