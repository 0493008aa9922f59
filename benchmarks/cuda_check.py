"""The same numbers on a GPU as on the CPU, waits in a training step, and seconds of steps of several sizes.

    python -m benchmarks.cuda_check                  # on a GPU, about two minutes with compilation
    python -m benchmarks.cuda_check -device cpu      # to see that it runs

- agreement: logits of a prediction and gradients of all losses, in each precision, and compiled in float32, against
  float32 on the CPU with the same weights; ||difference|| / ||reference||.
- prompts: a box in a volume, propagated; share of the voxels whose mask differs from the CPU's.
- windows: SAM2_3dMedPredictor's batches of windows against nnU-Net's predictor, which takes one at a time.
- waits: lines of this package in whose calls a training step (forward, losses, backward) waits for the device.
- steps: seconds of a training step of the networks of ``SAM2_3dMedTrainer_noPretrain_tuned`` and ``SAM2_3dMedTrainer``,
  with each operation launched by itself, and as a CUDA graph; seconds of the first steps and the recording;
  ||difference|| / ||reference|| of the gradients of both, and of two computations without a graph (no dropout); peak
  of allocated memory, and what torch has reserved, which a graph keeps.
- compiled: the same with torch.compile, which takes minutes.

Each part is written when it is there, to benchmarks/results/cuda_check.json; a part that fails is recorded so, and the
others go on.
"""

from __future__ import annotations

import argparse
import json
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers import SAM2_3dMedTrainer, SAM2_3dMedTrainer_noPretrain_tuned

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.report.measure import device_name
from nnunetv2_sam2_3dmed.training.cuda_graph import STEPS_UNTIL_REPLAYED, GraphedStep
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, LossTerms, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker
from tests.inference.test_predictor import predictor_for
from tests.interactive.reference import build, phantom, random_weights

RESULTS = Path(__file__).parent / "results" / "cuda_check.json"
CPU = torch.device("cpu")
PACKAGE = str(Path(__file__).parent.parent / "nnunetv2_sam2_3dmed")
# image size, slices, batch
STEPS = ((64, 6, 8), (128, 6, 16), (256, 12, 4))
TURNS = 8


class Work:
    """A network with its losses and a batch of random numbers.

    Args:
        device: where it runs.
        precision: of its matrix products.
        compiled: with torch.compile.
        size: of the slices and of the network's images.
        slices: of a stack.
        batch: stacks.
        options: of the network.
    """

    def __init__(
        self,
        device: torch.device,
        precision: str = "auto",
        compiled: bool = False,
        size: int = 128,
        slices: int = 6,
        batch: int = 2,
        **options: Any,
    ):
        torch.manual_seed(0)
        options = {"dropout": 0.0, **options}
        self.original = SAM2_3dMed(1, 3, image_size=size, num_slices=slices, precision=precision, **options)
        self.patches = torch.randn(batch, 1, slices, size, size).to(device)
        self.target = torch.randint(0, 3, (batch, 1, slices, size, size)).to(device)
        self.original.to(device)
        self.network = torch.compile(self.original) if compiled else self.original
        self.loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True))
        trained = [weight for weight in self.original.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")

    def logits(self) -> torch.Tensor:
        self.original.eval()
        self.original.slice_cache.clear()
        with torch.inference_mode():
            return self.network(self.patches).float().cpu()

    def gradients(self) -> torch.Tensor:
        """Gradients of all parameters, one after the other."""
        self.original.train()
        self.compute(self.patches, self.target)
        return self.gradients_now()

    def gradients_now(self) -> torch.Tensor:
        return torch.cat([p.grad.float().flatten().cpu() for p in self.original.parameters() if p.grad is not None])

    def compute(self, patches: torch.Tensor, target: torch.Tensor) -> LossTerms:
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.loss.terms(self.network(patches), target)
        terms.total.backward()
        return terms

    def step(self, compute: Callable[[torch.Tensor, torch.Tensor], LossTerms] | None = None) -> float:
        """A whole training step; the loss."""
        self.original.train()
        terms = (compute or self.compute)(self.patches, self.target)
        torch.nn.utils.clip_grad_norm_(self.original.parameters(), 12)
        self.optimizer.step()
        return terms.total.item()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||; NaN where one of the numbers is."""
    return float(f"{((found - expected).norm() / expected.norm()).item():.3g}")


def agreement(device: torch.device) -> dict[str, Any]:
    reference = Work(CPU, "float32")
    logits, gradients = reference.logits(), reference.gradients()
    found: dict[str, Any] = {"largest logit": round(float(logits.abs().max()), 3)}
    precisions = ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")
    for compiled in (False, True):
        for precision in precisions:
            if compiled and (precision != "float32" or device.type == "cpu"):
                continue
            torch._dynamo.reset()
            begun = perf_counter()
            work = Work(device, precision, compiled)
            found[f"{'compiled' if compiled else 'eager'}, {precision}"] = {
                "logits": difference(work.logits(), logits),
                "gradients": difference(work.gradients(), gradients),
                "seconds": round(perf_counter() - begun, 1),
            }
    return found


def prompts(device: torch.device) -> dict[str, Any]:
    image, weights = phantom((9, 96, 80)), random_weights()
    masks: dict[str, np.ndarray] = {}
    for where, precision in ((CPU, "float32"), (device, "float32"), (device, "auto")):
        session = InteractiveSession(build(weights, 128), where, precision=precision)
        session.set_image(image, spacing=(2.0, 1.0, 1.0))
        session.add_box((4, 20, 20), (4, 70, 60), 1)
        session.propagate()
        masks[f"{where.type}, {precision}"] = session.mask(1)
    expected = masks.pop("cpu, float32") if device.type == "cuda" else masks["cpu, float32"]
    return {
        "foreground": round(float(expected.mean()), 4),
        **{name: float((mask != expected).mean()) for name, mask in masks.items()},
    }


def windows(device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    network = SAM2_3dMed(1, 3, image_size=64, num_slices=4, precision="float32").to(device).eval()
    volume = torch.randn(1, 6, 40, 24)
    logits = [
        predictor_for(network, kind, mirroring=(2,), device=device)
        .predict_sliding_window_return_logits(volume)
        .float()
        .cpu()
        for kind in (nnUNetPredictor, SAM2_3dMedPredictor)
    ]
    return {
        "logits": difference(logits[1], logits[0]),
        "other labels": float((logits[0].argmax(0) != logits[1].argmax(0)).float().mean()),
    }


def waits(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"left out": "a CPU waits for nothing"}
    work = Work(device)
    for _ in range(2):
        work.compute(work.patches, work.target)
    torch.cuda.synchronize()
    found: Counter[str] = Counter()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: found.update([where()])  # type: ignore[assignment]
            work.compute(work.patches, work.target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return dict(found)


def where() -> str:
    """Line of this package from which the current call came."""
    ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "outside of this package"


def steps(device: torch.device, compiled: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cuda = device.type == "cuda"
    for trainer in (SAM2_3dMedTrainer_noPretrain_tuned, SAM2_3dMedTrainer):
        frozen = trainer is SAM2_3dMedTrainer
        changes = {} if frozen else {**trainer.architecture_changes, "freeze_trunk": False}
        sizes = STEPS[1:2] if compiled else STEPS[-1:] if frozen else STEPS
        for size, slices, batch in sizes if cuda else STEPS[:1]:
            torch._dynamo.reset()
            work = Work(device, size=size, slices=slices, batch=batch, compiled=compiled, **changes)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(work, None)
            facts = {"seconds": seconds, "peak GiB": peak(device)}
            if cuda:
                facts |= as_a_graph(work)
            found[f"{trainer.__name__}: {size} pixels, {slices} slices, batch {batch}"] = facts
            print(json.dumps(facts), flush=True)
            del work
    return found


def as_a_graph(work: Work) -> dict[str, Any]:
    """Facts of the same step, recorded."""
    failures: list[Exception] = []
    graphed = GraphedStep(work.compute, work.original.parameters(), failures.append)
    begun = perf_counter()
    for _ in range(STEPS_UNTIL_REPLAYED):
        work.step(graphed)
    seconds = perf_counter() - begun
    # with weights and a batch that are not those of the recording
    work.patches = torch.randn_like(work.patches)
    graphed(work.patches, work.target)
    replayed = work.gradients_now()
    expected = work.gradients()
    again = work.gradients()
    torch.cuda.reset_peak_memory_stats()
    return {
        "seconds of the first steps": round(seconds, 2),
        "gradients": difference(replayed, expected),
        "gradients, twice without a graph": difference(again, expected),
        "seconds, graph": timed(work, graphed),
        "peak GiB, graph": peak(work.patches.device),
        "reserved GiB, graph": round(torch.cuda.memory_reserved() / 2**30, 2),
        "failures": [str(failure)[:300] for failure in failures],
    }


def timed(work: Work, compute: Callable[[torch.Tensor, torch.Tensor], LossTerms] | None) -> float:
    """Median seconds of a step, after two that do not count."""
    seconds = []
    for _ in range(TURNS if work.patches.is_cuda else 3):
        begun = perf_counter()
        work.step(compute)
        seconds.append(perf_counter() - begun)
    return round(median(seconds[2:]), 4)


def peak(device: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.type == "cuda" else None


def compiled(device: torch.device) -> dict[str, Any]:
    return steps(device, compiled=True) if device.type == "cuda" else {"left out": "takes minutes on a CPU"}


PARTS = {
    "waits": waits,
    "steps": steps,
    "compiled": compiled,
    "prompts": prompts,
    "windows": windows,
    "agreement": agreement,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = torch.device(args.device)
    # float32 is compared with float32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    facts = {"device": device_name(device), "torch": torch.__version__, **software_and_machine()}
    for part in args.only:
        begun = perf_counter()
        try:
            facts[part] = PARTS[part](device)
        except Exception as error:  # the other parts may work
            traceback.print_exc()
            facts[part] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(f"{part} ({perf_counter() - begun:.0f} s): {json.dumps(facts[part])}", flush=True)
        write_text(args.output, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
