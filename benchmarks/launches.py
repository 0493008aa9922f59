"""Number of operations that one training step launches, eager and compiled, counted without a GPU.

    python benchmarks/launches.py [--before TREE]

A step is forward, losses and backward of 12 slices with both branches, batch 1, bfloat16, three heads, the tiny trunk
frozen, at 160 pixels: the smallest size at which attention on a CPU is one fused kernel, as it is on a GPU at any size;
apart from that, the count does not depend on the size. Eager, an operation is what reaches torch's dispatcher and is no
view, the ``Launches`` of tests/network/test_costs.py. Compiled, it is each call of a generated kernel, of a matrix
product or of an operation of torch in the code that inductor generated for a graph, times the calls of the graph, and
what runs eagerly around the graphs. The code is that for a CPU: what is fused on a GPU may differ a little.

``--before`` names another checkout of this repository, whose eager step is counted too. Writes
benchmarks/results/launches.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

RESULTS = Path(__file__).parent / "results"
IMAGE_SIZE = 160
SLICES = 12
# calls in generated code that launch something
KERNEL = re.compile(
    r"^\s+(?:\w+ = )?(?:cpp_fused\w*|triton_\w+\.run|extern_kernels\.\w+|torch\.ops\.[\w.]+|aten\.[\w.]+)\("
)
GENERATED = re.compile(r"^\s+(?:cpp_fused|triton_)")


class Launches(TorchDispatchMode):
    """Counts operations that compute something; on a GPU each is at least one kernel."""

    VIEWS = ("view", "permute", "transpose", "expand", "unsqueeze", "slice", "select", "t", "split", "squeeze")

    def __init__(self):
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def number(self) -> int:
        return self.by_name.total()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        # compiled graphs are run while it counts
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if name.strip("_").split("_")[-1] not in self.VIEWS and name not in ("detach", "alias"):
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


class Step:
    """One training step on random numbers."""

    def __init__(self, image_size: int = IMAGE_SIZE, slices: int = SLICES, precision: str = "bfloat16"):
        self.network = SAM2_3dMed(1, 3, image_size=image_size, num_slices=slices, precision=precision)
        self.loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True))
        self.patches = torch.randn(1, 1, slices, image_size, image_size)
        self.target = torch.randint(0, 3, self.patches.shape)

    def __call__(self, network: torch.nn.Module | None = None) -> None:
        output = (self.network if network is None else network)(self.patches)
        self.loss.terms(output, self.target).total.backward()


def eager(image_size: int) -> int:
    step = Step(image_size)
    step()  # casts and tables that are made once
    step.network.zero_grad(set_to_none=True)
    with Launches() as counted:
        step()
    return counted.number


@cache
def kernels_in(code: str) -> tuple[int, int]:
    """Launches in the code of a graph: of generated kernels, and of others."""
    body = code[code.index("def call(") :].split("\ndef ")[0].splitlines()
    calls = [line for line in body if KERNEL.match(line)]
    generated = sum(bool(GENERATED.match(line)) for line in calls)
    return generated, len(calls) - generated


class GraphCalls:
    """Counts calls of graphs that inductor generated, and their launches, while it is entered."""

    def __init__(self):
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> GraphCalls:
        from torch._inductor.output_code import CompiledFxGraph

        original = CompiledFxGraph.__call__

        def counting(graph: CompiledFxGraph, inputs: list) -> object:
            self.calls[graph.source_code] += 1
            with torch.utils._python_dispatch._disable_current_modes():
                return original(graph, inputs)

        self._patch = mock.patch.object(CompiledFxGraph, "__call__", counting)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def facts(self) -> dict:
        generated, others = (sum(n * kernels_in(code)[i] for code, n in self.calls.items()) for i in range(2))
        graphs = [
            {"calls": n, "generated kernels": kernels_in(code)[0], "other kernels": kernels_in(code)[1]}
            for code, n in self.calls.items()
        ]
        return {"generated kernels": generated, "other kernels": others, "graphs": graphs}


def compiled() -> dict:
    step = Step()
    network = torch.compile(step.network)
    with GraphCalls():
        step(network)
    step.network.zero_grad(set_to_none=True)
    with GraphCalls() as graphs, Launches() as around:
        step(network)
    facts = graphs.facts()
    total = facts["generated kernels"] + facts["other kernels"] + around.number
    most = {"most of these": dict(around.by_name.most_common(8))}
    return {"total": total, "outside of graphs": around.number, **most, **facts}


def eager_in(tree: Path, image_size: int) -> int:
    """The eager count with another checkout's package."""
    command = [sys.executable, __file__, "--only-eager", str(image_size)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--only-eager", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_eager:
        print(eager(args.only_eager))
        return
    file = RESULTS / "launches.json"
    before = json.loads(file.read_text())["eager before"] if file.is_file() else None
    if args.before:
        revision = subprocess.run(
            ["git", "-C", args.before, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        counts = {str(size): eager_in(args.before, size) for size in (96, IMAGE_SIZE)}
        before = {"commit": revision.stdout.strip(), "by image size": counts}
    facts = {
        "how": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "torch": torch.__version__,
        "slices": SLICES,
        "eager before": before,
        "eager": {"by image size": {str(size): eager(size) for size in (96, IMAGE_SIZE)}},
        f"compiled, {IMAGE_SIZE} pixels": compiled(),
    }
    file.write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
