"""Parameters that each loss reaches, of those that the masks depend on: what the auxiliary tasks can help to train.

    python benchmarks/gradient_reach.py

One forward pass of each variant from random weights on small images; a parameter is reached where its gradient is not
zero. Writes benchmarks/results/gradient_reach.json and docs/explanation/gradient_reach.md.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations
from nnunetv2_sam2_3dmed.trainers import sam2_3dmed_trainers as trainers
from speed_parts.plans import dataset_json, make_plans
from speed_parts.settings import setting_for

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed, TrainingOutput
from nnunetv2_sam2_3dmed.training.losses import SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

RESULTS = Path(__file__).parent / "results" / "gradient_reach.json"
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "gradient_reach.md"
PATCH = (4, 64, 64)
# parts of the network by the names of their parameters, the first that fits
PARTS = {
    "trunk": "encoder.trunk.",
    "neck": "encoder.neck.",
    "memory attention": "segmentation.memory_attention.",
    "mask decoder": "segmentation.mask_decoder.",
    "rest of the segmentation branch": "segmentation.",
    "boundary branch": "boundary.",
    "SRPP": "srpp.",
}


def network_of(name: str) -> tuple[SAM2_3dMed, dict]:
    """The network of a trainer with its options."""
    plans = make_plans(setting_for("cpu", False), 256, 1)
    options = PlanOptions(image_size=64, patch_size=PATCH[1:], slices=PATCH[0], batch_size=2)
    add_configurations(plans, dataset_json(1), options)
    configuration = PlansManager(plans).get_configuration("3d")
    trainer = getattr(trainers, name)
    network = trainer.build_network_architecture(None, configuration, 1, 2)
    network.precision = "float32"
    if network.segmentation.refinement is not None:
        # zero at first: nothing that precedes it would be reached
        torch.nn.init.normal_(network.segmentation.refinement.last.weight)
    return network.train(), trainer.architecture_of(configuration)


def reached(network: SAM2_3dMed, loss: torch.Tensor) -> set[str]:
    """Parameters on which a loss has a gradient other than zero."""
    network.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def reach_of(network: SAM2_3dMed) -> dict[str, dict[str, int]]:
    """By loss and part, the number of parameters that the loss and the masks both depend on."""
    torch.manual_seed(0)
    output: TrainingOutput = network(torch.randn(2, 1, *PATCH))
    target = torch.zeros(2, 1, *PATCH)
    target[..., 20:40, 20:40] = 1
    terms = SAM2_3dMedLoss(TargetMaker([1], None)).terms(output, target)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    masks = reached(network, terms.segmentation)
    found = {"segmentation": masks}
    if terms.srpp is not None:
        found["srpp"] = reached(network, terms.srpp) & masks
    if terms.boundary is not None:
        found["boundary"] = reached(network, terms.boundary) & masks
    counts = {}
    for loss, names in found.items():
        counted: Counter[str] = Counter()
        for name in names:
            counted[next(part for part, prefix in PARTS.items() if name.startswith(prefix))] += sizes[name]
        counts[loss] = {part: counted[part] for part in PARTS if counted[part]}
    return counts


def main() -> None:
    results: dict[str, dict] = {}
    seen: dict[str, str] = {}
    for name in sorted((n for n in trainers.__all__ if n.startswith(("SAM2_3dMed", "SAM2_Finetune"))), key=len):
        network, options = network_of(name)
        key = json.dumps(options, sort_keys=True)
        if key in seen:  # another loss weight, rate or augmentation
            results[seen[key]]["same"].append(name)
            continue
        seen[key] = name
        results[name] = {"same": [], "reach": reach_of(network)}
        print(name, results[name]["reach"], flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(page(results))


def page(results: dict[str, dict]) -> str:
    """The results as a table."""

    def cell(counts: dict[str, int] | None) -> str:
        if counts is None:
            return "no such loss"
        return ", ".join(f"{part} {count / 1e3:,.0f} k" for part, count in counts.items()) or "nothing"

    lines = [
        "# Gradient reach of the auxiliary losses",
        "",
        "Made by `benchmarks/gradient_reach.py`; do not edit. Thousands of parameters, of those that the masks depend",
        "on, on which a loss has a gradient, from random weights with one class. Which reading of the paper is the",
        "default, and why, is in [decisions](decisions.md#what-the-auxiliary-tasks-reach).",
        "",
        "| trainer | L_seg | L_srpp | L_bd | the same for |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        reach = row["reach"]
        cells = [cell(reach.get(loss)) for loss in ("segmentation", "srpp", "boundary")]
        same = ", ".join(f"`{other.replace('SAM2_3dMedTrainer', '')}`" for other in row["same"])
        lines.append(f"| `{name}` | {' | '.join(cells)} | {same} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
