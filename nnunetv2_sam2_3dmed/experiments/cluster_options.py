"""What a run asks a cluster for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnunetv2_sam2_3dmed.errors import UserError


@dataclass(frozen=True)
class ClusterOptions:
    """Resources of one run.

    Attributes:
        partition: SLURM's partition or LSF's queue; None: the cluster's default.
        minutes: after which the cluster stops it (it then goes on in a next job).
        gpus: one, or none to train on the CPU.
        memory_gb: main memory in GB.
        cpus: cores.
        extra: further options of sbatch, without the two dashes.
    """

    partition: str | None
    minutes: int
    gpus: int
    memory_gb: int
    cpus: int
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """nnU-Net's ``-device``."""
        return "cuda" if self.gpus else "cpu"


def parse_minutes(text: str) -> int:
    """Minutes from SLURM's notations ``MINUTES``, ``HH:MM:SS``, ``D-HH`` and ``D-HH:MM:SS``.

    Raises:
        UserError: it is none of them, or no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)-(\d+)|(\d+)", text)
    minutes = 0
    if match:
        days, hours, minutes, seconds, days_only, hours_only, minutes_only = (int(part or 0) for part in match.groups())
        minutes += ((days + days_only) * 24 + hours + hours_only) * 60 + minutes_only + (seconds > 0)
    if minutes < 1:
        raise UserError(f"--time {text!r}: expected minutes, HH:MM:SS, D-HH or D-HH:MM:SS, such as 24:00:00.")
    return minutes


def parse_extra(options: Sequence[str]) -> dict[str, str]:
    """The values of ``--slurm-option KEY=VALUE``.

    Raises:
        UserError: one has no key, or characters that do not belong into a line of a script.
    """
    extra = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not re.fullmatch(r"[a-z][a-z-]*", key) or not value.isprintable():
            raise UserError(f"--slurm-option {option!r}: expected KEY=VALUE as for sbatch, such as account=lab.")
        extra[key] = value
    return extra


def check_partition(name: str | None) -> None:
    """Refuses what cannot be a partition's or queue's name.

    Raises:
        UserError: it has other characters than names have.
    """
    if name is not None and not re.fullmatch(r"[\w.,-]+", name, re.ASCII):
        raise UserError(f"--partition {name!r}: expected the name of a SLURM partition or an LSF queue.")
