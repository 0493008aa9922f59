"""Memory of a training step of each trainer, counted on tensors without content: no GPU is needed.

    python benchmarks/memory.py                    # all rows, about ten minutes on two cores
    python benchmarks/memory.py --only SAM2_3dMedTrainer
    python benchmarks/memory.py --report           # counts nothing: the page docs/explanation/memory.md
    python benchmarks/memory.py --measure          # on a GPU: beside what is counted, what a real step takes there

Rows that are counted again replace what benchmarks/results/training_memory.json has of them. What is counted, and what
is not, says ``training.memory.step_bytes``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as trainers
import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations
from speed_parts.plans import dataset_json, make_plans
from speed_parts.settings import setting_for
from torch import nn

from nnunetv2_sam2_3dmed.network.promptable_sam2 import StackPrompts
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks, objects_to_train
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss, bce_loss
from nnunetv2_sam2_3dmed.training.memory import GIB, TrainingStep, step_bytes
from nnunetv2_sam2_3dmed.training.targets import TargetMaker
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

RESULTS = Path(__file__).parent / "results" / "training_memory.json"
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "memory.md"
SIZE = 512
PAPERS = "SAM2_3dMedTrainer"
# beyond one class, the paper's batch and bfloat16
OTHERS: dict[str, dict[str, Any]] = {
    "batch of 1": {"batch": 1},
    "15 classes": {"classes": 15},
    "104 classes": {"classes": 104},
    "256 pixels": {"size": 256},
    "6 slices": {"slices": 6},
    "float32": {"precision": "float32"},
    "4 channels": {"channels": 4},
}


# of the network, its losses and its batch, with everything on a device
Counter = Callable[[nn.Module, Callable[[Any], torch.Tensor], Callable[[], Any]], int]


def measured_bytes(network: nn.Module, losses: Callable[[Any], torch.Tensor], batch: Callable[[], Any]) -> int:
    """Peak of what torch allocates on the GPU in the second of two steps; 0 where the memory runs out."""
    device = torch.device("cuda")
    network.to(device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-6, fused=True)
    try:
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats(device)
            optimizer.zero_grad(set_to_none=True)
            with device:  # what the losses and the batch make is made there
                losses(network(batch())).backward()
            optimizer.step()
        return torch.cuda.max_memory_allocated(device)
    except torch.OutOfMemoryError:
        return 0


def configuration_of(name: str, classes: int = 1, batch: int = 4, size: int = SIZE, slices: int = 12) -> Any:
    """nnU-Net's configuration ``name``, slices of ``size`` voxels and pixels."""
    plans = make_plans(setting_for("cpu", False), size, classes)
    options = PlanOptions(
        image_size=size, patch_size=(size, size), slices=slices, batch_size=batch, checkpointing=False
    )
    add_configurations(plans, dataset_json(classes), options)
    return PlansManager(plans).get_configuration(name)


def count_automatic(
    trainer: type[SAM2_3dMedTrainer],
    checkpointing: bool,
    classes: int = 1,
    batch: int = 4,
    size: int = SIZE,
    slices: int = 12,
    precision: str = "bfloat16",
    channels: int = 1,
    counter: Counter = step_bytes,
) -> int:
    """Bytes of a step of a trainer that takes no prompts."""
    slices = trainer.required_slices or slices
    configuration = configuration_of("3d", classes, batch, size, slices)
    arguments = configuration.configuration["architecture"]["arch_kwargs"]
    arguments.update(trainer.architecture_of(configuration), precision=precision)
    arguments["activation_checkpointing"] |= checkpointing
    # the trainer's own changes must not be applied again over these
    network = SAM2_3dMedTrainer.build_network_architecture(None, configuration, channels, classes + 1).train()
    makes_dice = trainer.segmentation_loss is not SAM2_3dMedTrainer.segmentation_loss
    maker = TargetMaker(range(1, classes + 1), None)
    loss = SAM2_3dMedLoss(maker, DiceBCELoss(batch_dice=True) if makes_dice else bce_loss)

    def losses(output: Any) -> torch.Tensor:
        maker._labels = torch.zeros(maker._labels.shape, dtype=torch.int64)
        return loss.terms(output, torch.zeros(batch, 1, slices, size, size, dtype=torch.int16)).total

    return counter(network, losses, lambda: torch.zeros(batch, channels, slices, size, size))


def count_prompted(trainer: type[Any], checkpointing: bool, counter: Counter = step_bytes) -> int:
    """Bytes of a step of a trainer with prompts: as many objects, with a box, as a stack can have."""
    batch = stacks_of(trainer)
    configuration = configuration_of("3d_slices8", 3, batch)
    architecture = {**trainer.architecture_of(configuration), "precision": "bfloat16"}
    architecture["activation_checkpointing"] = checkpointing
    configuration.configuration["architecture"]["arch_kwargs"].update(architecture)
    network = trainer.build_network_architecture(None, configuration, 1, 4).train()
    masks = torch.zeros(batch, 3, 8, SIZE, SIZE, dtype=torch.bool)
    for number in range(3):
        masks[:, number, :, 100 * number + 50 : 100 * number + 120, 200:300] = True
    stacks = Stacks(
        torch.rand(batch, 8, SIZE, SIZE),
        masks,
        torch.ones(batch, 8, SIZE, SIZE, dtype=torch.bool),
        torch.ones(batch, 8, dtype=torch.bool),
    )
    objects = objects_to_train(stacks, SIZE, boxes_of(trainer), np.random.default_rng(0))
    assert objects is not None and len(objects.classes) == 3 * batch

    def prompts() -> StackPrompts:
        given = objects.prompts._asdict().items()
        # on the device of the context, whichever that is
        on_device = {n: torch.zeros(v.shape, dtype=v.dtype) for n, v in given if isinstance(v, torch.Tensor)}
        return objects.prompts._replace(**on_device)

    made: list[StackPrompts] = []

    def remembered() -> StackPrompts:
        made[:] = [prompts()]
        return made[0]

    return counter(network, lambda answers: PromptLoss()(answers, objects._replace(prompts=made[0])).total, remembered)


def stacks_of(trainer: type[Any]) -> int:
    return getattr(trainer, "stacks_per_gpu", 4)


def boxes_of(trainer: type[Any]) -> PromptMix:
    """Boxes alone, on stacks; corrected after a propagation where the trainer has such batches."""
    return PromptMix(1.0, 0.0, images=0.0, later=float(trainer.mix.later > 0))


def rows() -> dict[str, tuple[list[str], Callable[..., int]]]:
    """Rows to count: by name, the trainers that a row holds for and the way to count it."""
    groups: dict[str, list[str]] = {}
    # small images apart, these two change nothing of what is kept
    unimportant = ("dropout", "fitted_windows")
    for name in (n for n in trainers.__all__ if n.startswith(("SAM2_3dMed", "SAM2_Finetune"))):
        trainer = getattr(trainers, name)
        architecture = {
            key: value
            for key, value in trainer.architecture_of(configuration_of("3d")).items()
            if key not in unimportant
        }
        dice = trainer.segmentation_loss is not SAM2_3dMedTrainer.segmentation_loss
        key = json.dumps([architecture, dice, trainer.required_slices], sort_keys=True)
        groups.setdefault(key, []).append(name)
    found: dict[str, tuple[list[str], Callable[..., int]]] = {}
    for names in groups.values():
        names.sort(key=lambda name: (name != PAPERS, len(name)))
        found[names[0]] = names, partial(count_automatic, getattr(trainers, names[0]))
    for name, options in OTHERS.items():
        found[f"{PAPERS}, {name}"] = [], partial(count_automatic, SAM2_3dMedTrainer, **options)
    groups = {}
    for name in (n for n in trainers.__all__ if n.startswith("SAM2_PromptTrainer")):
        trainer = getattr(trainers, name)
        architecture = trainer.architecture_of(configuration_of("3d_slices8", 3))
        kept = {key: value for key, value in architecture.items() if key not in unimportant}
        key = json.dumps([kept, stacks_of(trainer), boxes_of(trainer)], sort_keys=True)
        groups.setdefault(key, []).append(name)
    for names in groups.values():
        names.sort(key=len)
        found[names[0]] = names, partial(count_prompted, getattr(trainers, names[0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--report", action="store_true", help="only write the page of what was counted before")
    parser.add_argument("--measure", action="store_true", help="also run each step on the GPU, and see what it takes")
    args = parser.parse_args()
    if args.measure and not torch.cuda.is_available():
        parser.error("--measure needs a GPU, and torch finds none.")
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": {}}
    for name, (names, count) in rows().items():
        if args.report or (args.only and name not in args.only):
            continue
        gib = {way: round(count(way == "on") / GIB, 2) for way in ("off", "on")}
        known["rows"][name] = {"trainers": names, "checkpointing": gib}
        if args.measure:
            known["rows"][name]["measured"] = {
                way: round(count(way == "on", counter=measured_bytes) / GIB, 2) for way in ("off", "on")
            }
            known["gpu"] = torch.cuda.get_device_name()
        known["torch"] = torch.__version__
        RESULTS.write_text(json.dumps(known, indent=2) + "\n")
        print(name, gib, flush=True)
    PAGE.write_text(page(known))


def page(known: dict[str, Any]) -> str:
    """The results in words and as a table."""
    formula = TrainingStep(4, (12, SIZE, SIZE), SIZE, 1)
    expected = formula.expected_bytes() / GIB
    text = f"""\
GiB that the tensors of one step take at their peak, on one GPU: weights, AdamW's moments, activations, losses and
gradients. Batches of 4 stacks of 12 slices (8 with prompts, a box for each of three objects in each stack) of 512 x 512
voxels and pixels, one class, tiny trunk, bfloat16, not compiled, unless the row says otherwise; `_batch8` always has 8
stacks, and `_corrected` is counted with corrections after the propagation. Counted on tensors without content
(torch {known["torch"]}), not measured on a GPU: CUDA's context, workspaces of cuDNN and cuBLAS, and what the allocator
cannot use between blocks come on top, for which `sam2_3dmed plan` adds 1 GiB.

`sam2_3dmed plan --gpu-memory GIB` chooses batch and checkpointing by a formula that was fitted to such counts (for the
first row it says {expected:.1f}), for `SAM2_3dMedTrainer`; `--checkpointing on` or `off` and `--batch-size` overrule
it. `SAM2_3dMedTrainer_lowMemory` has checkpointing whatever the plan says. A training that runs out of memory ends with
a sentence that names these options.
"""
    if "gpu" in known:
        text += f"\nIn brackets, what torch allocated at the peak on one {known['gpu']}; 0 where that was not enough.\n"
    lines = [
        "# Memory of a training step",
        "",
        "Made by `benchmarks/memory.py`; do not edit.",
        "",
        text,
        "| trainer | without checkpointing | with | the same for |",
        "|---|---|---|---|",
    ]
    for name, row in known["rows"].items():
        same = ", ".join(f"`{other.replace(PAPERS, '')}`" for other in row["trainers"][1:])
        title = f"`{name}`" if row["trainers"] else name
        gib = row["checkpointing"]
        seen = row.get("measured")
        off, on = (f"{gib[way]:.1f}" + (f" ({seen[way]:.1f})" if seen else "") for way in ("off", "on"))
        lines.append(f"| {title} | {off} | {on} | {same} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
