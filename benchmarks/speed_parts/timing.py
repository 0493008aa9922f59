"""Contenders taking turns: seconds, peak memory, operations and encoded slices of each."""

from __future__ import annotations

import ctypes
import gc
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Contender(ABC):
    """Something that is measured beside others.

    Attributes:
        name: by which results are found.
        words: what it does.
        precision: in which it computes.
        network: what it computes with; away from the device while others are measured.
        trunk: SAM 2's trunk, whose calls are counted; None without one.
    """

    name: str
    words: str
    precision: str
    network: nn.Module
    trunk: nn.Module | None = None

    def prepare(self, device: torch.device) -> None:
        """Move the network to the device, untimed; subclasses also empty caches."""
        self.network.to(device)

    @abstractmethod
    def run(self) -> torch.Tensor:
        """Run the timed part."""

    def release(self) -> None:
        """Free the memory for the other contenders."""
        self.network.to("cpu")


class Deadline:
    """Time after which nothing new is started.

    Args:
        minutes: from now; None for never.
    """

    def __init__(self, minutes: float | None = None):
        self._end = math.inf if minutes is None else perf_counter() + 60 * minutes

    def allows(self, seconds: float = 0.0) -> bool:
        """Return True if a measurement of ``seconds`` still fits into the time."""
        return perf_counter() + seconds < self._end


@dataclass
class Measured:
    """Measurements of one contender.

    Attributes:
        seconds: of each round.
        peak_bytes: at most in any round, the network included; None where it cannot be measured.
        flop: operations of one run, a multiplication and an addition being two.
        encoded_slices: images that SAM 2's trunk was given in one run; None without one.
        output_on: the device that holds the result.
        failed: why there is nothing.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    flop: int = 0
    encoded_slices: int | None = None
    output_on: str | None = None
    failed: str | None = None

    def record(self) -> dict:
        """Make the entry of the results file."""
        if self.failed is not None:
            return {"failed": self.failed}
        return {
            "median_seconds": round(median(self.seconds), 5) if self.seconds else None,
            "seconds": [round(s, 5) for s in self.seconds],
            "peak_mib": None if self.peak_bytes is None else round(self.peak_bytes / 2**20),
            "gflop": round(self.flop / 1e9, 3),
            "encoded_slices": self.encoded_slices,
            "output_on": self.output_on,
        }


def measure(
    contenders: Sequence[Contender], device: torch.device, repeats: int, deadline: Deadline | None = None
) -> dict[str, Measured]:
    """Run each once to warm up and to count, then all in turn, ``repeats`` times.

    What does not fit into memory, or fails otherwise, is out, and the others go on.

    Args:
        contenders: in the order in which they take turns.
        device: where they run.
        repeats: rounds; fewer, but at least one, where the deadline comes first.
        deadline: no round is begun that would outlast it.
    """
    deadline = deadline or Deadline()
    measured = {contender.name: Measured() for contender in contenders}
    begun = perf_counter()
    for contender in contenders:
        _attempt(contender, measured[contender.name], device, _warm_up)
    longest = perf_counter() - begun
    for number in range(repeats):
        if number > 0 and not deadline.allows(longest):
            break
        begun = perf_counter()
        for contender in contenders:
            _attempt(contender, measured[contender.name], device, _time_once)
        longest = perf_counter() - begun if number == 0 else max(longest, perf_counter() - begun)
    return measured


def _attempt(contender: Contender, measured: Measured, device: torch.device, action) -> None:
    if measured.failed is not None:
        return
    try:
        with PeakMemory(device) as peak:
            contender.prepare(device)
            action(contender, measured, device)
    except Exception as error:  # whatever one contender cannot do, the others are measured
        measured.failed = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    else:
        resident = 0 if device.type == "cuda" else parameter_bytes(contender.network)
        if action is _time_once and peak.bytes is not None:
            measured.peak_bytes = max(measured.peak_bytes or 0, peak.bytes + resident)
    contender.release()
    if device.type == "cuda" and measured.failed is not None:
        torch.cuda.empty_cache()


def _warm_up(contender: Contender, measured: Measured, device: torch.device) -> None:
    with counted_slices(contender.trunk) as slices, FlopCounterMode(display=False) as counter:
        output = contender.run()
        synchronize(device)
    measured.flop = int(counter.get_total_flops())
    measured.encoded_slices = sum(slices) if contender.trunk is not None else None
    measured.output_on = output.device.type


def _time_once(contender: Contender, measured: Measured, device: torch.device) -> None:
    synchronize(device)
    begun = perf_counter()
    contender.run()
    synchronize(device)
    measured.seconds.append(perf_counter() - begun)


@contextmanager
def counted_slices(trunk: nn.Module | None) -> Iterator[list[int]]:
    """The number of images in each call of the trunk."""
    calls: list[int] = []
    if trunk is None:
        yield calls
        return
    hook = trunk.register_forward_pre_hook(lambda _, images: calls.append(len(images[0])))
    try:
        yield calls
    finally:
        hook.remove()


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))


class PeakMemory:
    """Memory that a block needs at most above what was there before, in bytes.

    On a GPU what torch allocates; on a CPU the process's resident memory, whose peak Linux lets one reset. ``bytes`` is
    None elsewhere.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: int | None = torch.cuda.memory_allocated(self.device)
            return self
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is no longer resident
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status_bytes("VmRSS")
        except (OSError, TypeError):  # not Linux, or not allowed
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _status_bytes("VmHWM")
        self.bytes = peak - self._before


def _status_bytes(entry: str) -> int:
    found = re.search(rf"^{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10  # type: ignore[index]
