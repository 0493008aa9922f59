"""Agreement of masks with prompts while SAM 2 trains from random weights, with and without steady features.

    eval "$(sam2_3dmed env)"
    python benchmarks/prompt_following.py            # CPU; hippocampus planned as prompt_training.py does

Both parts of the hippocampus lie in one image: whoever ignores the prompt gives the same mask for both. Trains
``SAM2_PromptTrainer_noPretrain_tuned`` on single slices of fold 0 for a few steps, and writes, to
benchmarks/results/prompt_following.json, on fixed validation stacks:

- box, click: Dice of the part that is pointed at, on slices that show both;
- other: the Dice of the masks that boxes give with the part that they do not point at: as high where none is followed;
- spread: standard deviation of the features over places and images, as a share of their size.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

os.environ["nnUNet_n_proc_DA"] = "0"  # the order of cases is then the seed's

from nnunetv2_sam2_3dmed.network.resizing import at_image_size, logits_at
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks, objects_to_train, single_slices
from nnunetv2_sam2_3dmed.prompt_training.variants import SAM2_PromptTrainer_noPretrain_tuned

RESULTS = Path(__file__).parent / "results"
DATASET, CONFIGURATION = "Dataset004_Hippocampus", "3d_slices8"
BOXES, CLICKS = PromptMix(1.0, 0.0, 0.0), PromptMix(0.0, 1.0, 0.0)


class Steady(SAM2_PromptTrainer_noPretrain_tuned):
    mix = SAM2_PromptTrainer_noPretrain_tuned.mix._replace(images=1.0)


class AsTheyAre(Steady):
    architecture_changes = {**Steady.architecture_changes, "steady_features": False}


def started(trainer_class: type[Steady], seed: int, folder: str) -> Steady:
    preprocessed = nnunet_folder("nnUNet_preprocessed") / DATASET
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    torch.manual_seed(seed)
    np.random.seed(seed)
    trainer = trainer_class(
        plans, CONFIGURATION, 0, json.loads((preprocessed / "dataset.json").read_text()), torch.device("cpu")
    )
    trainer.output_folder, trainer.log_file = folder, f"{folder}/log.txt"
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    return trainer


@torch.no_grad()
def measured(trainer: Steady, batches: list[dict]) -> dict[str, float]:
    """The means over all slices of some validation batches that show both parts."""
    network = trainer.network.eval()
    scores: dict[str, list[float]] = {"box": [], "other": [], "click": [], "spread": []}
    for batch in batches:
        stacks = single_slices(trainer._stacks(batch))
        both = stacks.masks.flatten(3).any(dim=3).all(dim=1)[:, 0]
        stacks = Stacks(*(part[both] for part in stacks[:4]))  # all but the numbers of videos, of which there are none
        for name, mix in (("box", BOXES), ("click", CLICKS)):
            objects = objects_to_train(stacks, trainer._image_size, mix, np.random.default_rng(0))
            (answer,) = network(objects.prompts)
            found = logits_at(answer.logits, (trainer._image_size,) * 2) > 0
            truth = at_image_size(objects.prompts.gt[:, 0], trainer._image_size) > 0
            # objects come in pairs of one slice, in any order
            other = truth.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
            scores[name].append(_dice(found, truth))
            if name == "box":
                scores["other"].append(_dice(found, other))
                features = network.forward_image(objects.prompts.images.flatten(0, 1))["backbone_fpn"][-1].float()
                spread = (features - features.mean(dim=(0, 2, 3), keepdim=True)).square().mean()
                scores["spread"].append(float((spread / features.square().mean()).sqrt()))
    network.train()
    return {name: round(float(np.mean(values)), 3) for name, values in scores.items()}


def _dice(found: torch.Tensor, truth: torch.Tensor) -> float:
    found, truth = found.flatten(1), truth.flatten(1)
    return float((2 * (found & truth).sum(dim=1) / (found.sum(dim=1) + truth.sum(dim=1))).mean())


def learn(trainer_class: type[Steady], seed: int, steps: int, every: int) -> dict[int, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = started(trainer_class, seed, folder)
        batches = [next(trainer.dataloader_val) for _ in range(4)]
        trainer.network.train()
        seen = {}
        for step in range(1, steps + 1):
            trainer.lr_scheduler.step((step - 1) / steps * trainer.num_epochs)
            trainer.train_step(next(trainer.dataloader_train))
            if step % every == 0:
                seen[step] = measured(trainer, batches)
                print(trainer_class.__name__, seed, step, seen[step], flush=True)
        return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    ways = {"as they are": AsTheyAre, "steady": Steady}
    results = {
        name: {seed: learn(way, seed, args.steps, args.every) for seed in args.seeds} for name, way in ways.items()
    }
    report = {"torch": torch.__version__, "dataset": DATASET, "steps": args.steps, "gradients": results}
    (RESULTS / "prompt_following.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
