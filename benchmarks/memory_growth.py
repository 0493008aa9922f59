"""Memory of a process that segments many volumes, and of a session in which clicks are propagated and undone.

    python -m benchmarks.memory_growth --volumes 500 --rounds 200 --output benchmarks/results/memory_growth.json

Each volume is written as a file of another size, segmented from a click, and saved with its picture, as `sam2_3dmed
segment` does. Weights are random and slices 64 pixels wide, since what would be kept is kept at any size. After each
volume and each round, Python's garbage is collected and freed memory goes back to the system, and the resident memory,
the tensors and the open files of the process are counted.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array, write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.preview import write_preview
from tests.interactive.reference import build, phantom, random_weights

SHARE = 0.1  # of all counts, at the beginning (after as many to warm up) and at the end, of which medians are compared


class Counts(NamedTuple):
    """The state of the process at one time."""

    resident_mib: float
    tensors: int
    tensor_mib: float
    open_files: int


def count() -> Counts:
    """Count after collecting garbage."""
    gc.collect()
    if platform.system() == "Linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tensors = [entry for entry in gc.get_objects() if issubclass(type(entry), torch.Tensor)]  # no deprecated properties
    return Counts(
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(tensors),
        sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20,
        len(os.listdir("/proc/self/fd")),
    )


def growth(step: Callable[[int], None], number: int) -> dict[str, object]:
    """Medians of the counts soon after the start and at the end of ``number`` steps."""
    counts = []
    for index in range(number):
        step(index)
        counts.append(count())
    few = max(1, round(SHARE * number))
    summary: dict[str, object] = {"steps": number}
    for name, values in zip(Counts._fields, zip(*counts, strict=True), strict=True):
        first, last = statistics.median(values[few : 2 * few]), statistics.median(values[-few:])
        summary[name] = {"first": round(first, 2), "last": round(last, 2)}
    return summary


def volumes(session: InteractiveSession, folder: Path) -> Callable[[int], None]:
    """A step that writes, reads, segments and saves a volume."""
    rng = np.random.default_rng(0)

    def step(_: int) -> None:
        shape = tuple(int(length) for length in rng.integers((6, 40, 40), (16, 120, 120)))
        volume = volume_from_array(phantom(shape), (3.0, 0.8, 0.8))
        write_segmentation(folder / "image.nii.gz", volume.array.astype(np.int16), volume)
        session.set_image(folder / "image.nii.gz")
        session.add_points([[length // 2 for length in shape]])
        session.propagate()
        session.save(folder / "mask.nii.gz")
        write_preview(folder / "mask.png", session, session.labels(), 0)

    return step


def rounds(session: InteractiveSession) -> Callable[[int], None]:
    """A step that clicks, propagates, and undoes the click, with which the propagation goes."""
    session.set_image(volume_from_array(phantom((24, 96, 96)), (3.0, 0.8, 0.8)))
    session.add_points([[12, 48, 48]])
    session.propagate()
    rng = np.random.default_rng(1)

    def step(_: int) -> None:
        before = session.labels()
        session.add_points([rng.integers((0, 20, 20), (24, 76, 76)).tolist()], int(rng.integers(2)))
        session.propagate()
        session.undo()
        assert np.array_equal(session.labels(), before)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    session = InteractiveSession(build(random_weights()), device="cpu", precision="float32")
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "machine": machine,
            "volumes": growth(volumes(session, Path(folder)), args.volumes),
            "click, propagate, undo": growth(rounds(session), args.rounds),
        }
    text = json.dumps(result, indent=2)
    print(text)
    if args.output is not None:
        write_text(args.output, text + "\n")


if __name__ == "__main__":
    main()
