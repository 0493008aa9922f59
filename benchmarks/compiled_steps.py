"""Seconds of a training step and of the prediction of a window: eager and compiled, and before and now.

    python benchmarks/compiled_steps.py -device cpu [--before TREE] [--minutes 12]

The tiny trunk frozen, both branches, two foreground classes. All contenders take turns, and the medians and the medians
of the ratios of each turn are kept: on a shared machine the seconds themselves say little. A training step is forward,
losses and backward; a prediction is one window, none of whose slices is known. Each size is compiled anew; what was not
reached in ``--minutes`` is left out. What an earlier run measured stays in the file until it is measured again.

``--before`` names another checkout of this repository; its eager steps take turns with those of this one, in a process
for each. Writes benchmarks/results/compiled_steps_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.report.measure import device_name
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

RESULTS = Path(__file__).parent / "results"
BATCH = {96: 4, 160: 1, 256: 1, 512: 1}
SLICES = {"cpu": {96: 12, 160: 12, 256: 12, 512: 6}, "cuda": dict.fromkeys(BATCH, 12)}
TURNS = {"cpu": {96: 5, 160: 5, 256: 3, 512: 2}, "cuda": dict.fromkeys(BATCH, 20)}
KINDS = ("training", "prediction")


class Work:
    """A network with its losses and a batch of random numbers.

    Args:
        image_size: of the network and of the slices.
        device: where it runs.
        how: "eager" or "compiled".
    """

    def __init__(self, image_size: int, device: torch.device, how: str = "eager"):
        torch.manual_seed(0)
        slices = SLICES[device.type][image_size]
        self.original = SAM2_3dMed(1, 3, image_size=image_size, num_slices=slices).to(device)
        self.network = self.original if how == "eager" else torch.compile(self.original)
        self.loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True))
        self.patches = torch.randn(BATCH[image_size], 1, slices, image_size, image_size, device=device)
        self.target = torch.randint(0, 3, self.patches.shape, device=device)

    def training(self) -> None:
        self.original.train()
        self.original.zero_grad(set_to_none=True)
        self.loss.terms(self.network(self.patches), self.target).total.backward()

    def prediction(self) -> None:
        self.original.eval()
        self.original.slice_cache.clear()
        with torch.inference_mode():
            self.network(self.patches)

    def seconds(self, kind: str) -> float:
        begun = perf_counter()
        getattr(self, kind)()
        if self.patches.is_cuda:
            torch.cuda.synchronize()
        return perf_counter() - begun


def in_turns(contenders: dict[str, Callable[[], float]], turns: int) -> dict:
    """Medians of seconds, and of the ratios to the first contender in the same turn; a first turn is not counted."""
    first = {name: run() for name, run in contenders.items()}
    seconds = [{name: run() for name, run in contenders.items()} for _ in range(turns)]
    reference = next(iter(contenders))
    return {
        "turns": turns,
        "load average": os.getloadavg()[0],
        "seconds of the first, compilation included": {name: round(s, 2) for name, s in first.items()},
        "median seconds": {name: round(median(turn[name] for turn in seconds), 4) for name in contenders},
        f"median ratio to {reference}": {
            name: round(median(turn[name] / turn[reference] for turn in seconds), 3)
            for name in contenders
            if name != reference
        },
    }


class Served:
    """A process that works with the package of a checkout, one step for each line that it reads."""

    def __init__(self, tree: Path, image_size: int, device: torch.device):
        command = [sys.executable, __file__, "-device", device.type, "--serve", str(image_size)]
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, kind: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(image_size: int, device: torch.device) -> None:
    work = Work(image_size, device)
    for line in sys.stdin:
        print(work.seconds(line.strip()), flush=True)


def before_and_now(before: Path, image_size: int, device: torch.device) -> dict:
    trees = {"before": before, "now": Path(__file__).parent.parent}
    served = {name: Served(tree, image_size, device) for name, tree in trees.items()}
    try:
        turns = TURNS[device.type][image_size]
        return {
            kind: in_turns({name: lambda s=s, k=kind: s.seconds(k) for name, s in served.items()}, turns)
            for kind in KINDS
        }
    finally:
        for each in served.values():
            each.close()


def compiled_or_not(image_size: int, device: torch.device, kind: str) -> dict:
    hows = ("eager", "compiled")
    works = {how: Work(image_size, device, how) for how in hows}
    contenders = {how: lambda w=work: w.seconds(kind) for how, work in works.items()}
    return in_turns(contenders, TURNS[device.type][image_size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--image-sizes", type=int, nargs="+", default=sorted(BATCH), choices=sorted(BATCH))
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="what is measured compiled")
    parser.add_argument("--minutes", type=float, default=12, help="after which nothing new is begun")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device, end = torch.device(args.device), perf_counter() + 60 * args.minutes
    if args.serve:
        serve(args.serve, device)
        return
    file = RESULTS / f"compiled_steps_{device.type}.json"
    facts = read_json(file) if file.is_file() else {}
    facts |= {
        "device": device_name(device),
        **software_and_machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "batch": {str(size): n for size, n in BATCH.items()},
        "slices": {str(size): n for size, n in SLICES[device.type].items()},
    }
    jobs: list[tuple[str, str, Callable[[], dict]]] = []
    for size in args.image_sizes:
        if args.before:
            jobs.append(("eager, before and now", str(size), lambda s=size: before_and_now(args.before, s, device)))
    for kind in args.kinds:
        for size in args.image_sizes:
            jobs.append((f"compiled, {kind}", str(size), lambda s=size, k=kind: compiled_or_not(s, device, k)))
    if args.before:
        found = subprocess.run(
            ["git", "-C", args.before, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        facts["before"] = found.stdout.strip()
    for part, size, measure in jobs:
        if perf_counter() > end:
            break
        torch._dynamo.reset()
        facts.setdefault(part, {})[size] = measure()
        write_text(file, json.dumps(facts, indent=2) + "\n")
        print(part, size, json.dumps(facts[part][size]), flush=True)


if __name__ == "__main__":
    main()
