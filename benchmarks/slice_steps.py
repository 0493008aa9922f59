"""Seconds per slice in prediction, for encoding and for memory, by batch size.

    python benchmarks/slice_steps.py -device cpu

Random weights, the tiny trunk, windows of 12 slices. Measures the seconds per slice of encoding 1 to 64 slices at once;
of memory attention, decoder and memory encoder over 1 to 28 windows at once, also in torch's inference mode, in which
autocast casts all weights again for each slice; and the shares of kinds of operations in memory's part. Medians of
several rounds, in which all take turns. Writes benchmarks/results/slice_steps_DEVICE.json. Nothing else should run on
the machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.slice_encoder import ENCODED_PIXELS, SliceFeatures
from nnunetv2_sam2_3dmed.report.measure import device_name

RESULTS = Path(__file__).parent / "results"
SLICES = 12
ENCODED = {96: (1, 4, 16, 64), 256: (1, 4, 16), 512: (1, 4, 12)}
WINDOWS = {96: (1, 4, 28), 256: (1, 4), 512: (1, 2)}
KINDS = {
    "attention": ("scaled_dot_product",),
    "matrix products": ("addmm", "mm", "bmm", "matmul"),
    "convolutions": ("convolution",),
    "copies and casts": ("copy_", "cat"),
}


def in_turns(calls: Sequence[Callable[[], object]], device: torch.device, rounds: int = 5) -> list[float]:
    """The median seconds of each call; they take turns, and the first round is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for own, call in zip(times, calls, strict=True):
            begun = perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            own.append(perf_counter() - begun)
    return [median(own[1:]) for own in times]


def random_features(network: SAM2_3dMed, windows: int, device: torch.device) -> SliceFeatures:
    """Projected features of windows, as the decoder takes them."""
    grid = network.encoder.adapter.image_size // 16
    sizes = ((32, 4 * grid), (64, 2 * grid), (256, grid))
    levels = [torch.randn(windows, SLICES, channels, side, side, device=device) for channels, side in sizes]
    return SliceFeatures(*levels, network.encoder.position(levels[2][:, 0]))


def shares(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Shares of the time of all operations, by kind."""
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with profile(activities=activities) as profiled:
        call()
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = {event.key: getattr(event, own) for event in profiled.key_averages()}
    total = sum(times.values())
    found = dict.fromkeys(KINDS, 0.0)
    for name, time in times.items():
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), None)
        if kind is not None:
            found[kind] += time / total
    return {kind: round(share, 3) for kind, share in found.items()}


def measure(image_size: int, device: torch.device) -> dict:
    network = SAM2_3dMed(1, 2, image_size=image_size, num_slices=SLICES, srpp=False, boundary=False).eval().to(device)
    numbers = ENCODED[image_size]
    stacks = [torch.randn(number, 1, 1, image_size, image_size, device=device) for number in numbers]
    at_once = dict.fromkeys(ENCODED_PIXELS, max(numbers) * image_size**2)  # else split as a prediction does
    with network._inference_context(device), patch.dict(ENCODED_PIXELS, at_once):
        calls = [lambda s=slices: network.segmentation.project(network.encoder(s)) for slices in stacks]
        encoding = {n: round(1000 * taken / n, 2) for n, taken in zip(numbers, in_turns(calls, device), strict=True)}

    def propagate(features: SliceFeatures, mode: AbstractContextManager) -> None:
        with mode, torch.no_grad(), network._context(device):
            network.segmentation.propagate(features)

    windows = WINDOWS[image_size]
    modes = [(n, make) for n in windows for make in (nullcontext, torch.inference_mode)]
    features_of = {n: random_features(network, n, device) for n in windows}
    calls = [lambda n=n, make=make: propagate(features_of[n], make()) for n, make in modes]
    taken = [round(1000 * t / n / SLICES, 2) for t, (n, _) in zip(in_turns(calls, device), modes, strict=True)]
    memory, casting = dict(zip(windows, taken[::2])), dict(zip(windows, taken[1::2]))
    features = features_of[1]
    with network._inference_context(device):
        by_kind = shares(lambda: network.segmentation.propagate(features), device)
    return {
        "ms per slice to encode, by slices at once": encoding,
        "ms per slice in memory, by windows at once": memory,
        "the same in inference mode": casting,
        "shares of the time in memory, one window": by_kind,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--image-sizes", type=int, nargs="+", default=sorted(ENCODED), choices=sorted(ENCODED))
    args = parser.parse_args()
    device = torch.device(args.device)
    facts = {
        "device": device_name(device),
        **software_and_machine(),
        "torch": torch.__version__,
        "pixels": {str(size): measure(size, device) for size in args.image_sizes},
    }
    write_text(RESULTS / f"slice_steps_{args.device}.json", json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
