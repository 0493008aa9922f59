"""Short trainings from random weights of changes to the recipe, on the same batches, beside each other.

    python benchmarks/learning.py plain refined_2 refined_2_64px --seeds 0 1 2 --iterations 200

Needs MSD hippocampus as nnU-Net's dataset 4, preprocessed for 3d_fullres (``nnUNetv2_convert_MSD_dataset``,
``nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres``). Of each variant and seed, a training of fold 0 with a fixed number
of iterations and a learning rate that falls over them. The seed sets the weights and which cases, crops and
augmentations each batch has, the same in all variants of one image size. What is in the result file already is not
trained again. From all of it the table learning.md and docs/images/learning.png are made. Only rows of as many
iterations and cases compare: the learning rate falls over the iterations, and the Dice is of these cases.

Recorded every ``--every`` iterations: mean Dice over whole validation cases, of the weights and of their moving
average; the loss; seconds of training so far (the machine did other work beside some of the runs, so that they are
no measure of speed); the norm of the gradient; the size of the encoder's features and the share of it that differs
between places; and the share of the path of the weights that leads nowhere (1 - distance / length).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import learning_variants
import numpy as np
import torch
from learning_variants import PLAN, VARIANTS
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "learning.png"
PIXELS = 96
SAMPLED = 101  # one weight in so many is followed


class Training:
    """One variant with one seed.

    Args:
        variant: a key of ``VARIANTS``.
        seed: of weights and batches.
        iterations: over which the learning rate falls.
    """

    def __init__(self, variant: str, seed: int, iterations: int):
        changes = dict(VARIANTS[variant])
        preprocessed = nnunet_folder("nnUNet_preprocessed") / maybe_convert_to_dataset_name(4)
        dataset_json = json.loads((preprocessed / "dataset.json").read_text())
        plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
        plan = {**PLAN, "image_size": PIXELS, **changes.pop("plan", {})}
        batch_dice = plan.pop("batch_dice", False)
        add_configurations(plans, dataset_json, PlanOptions(**plan))
        plans["configurations"]["3d"]["batch_dice"] = batch_dice
        plans["continue_training"] = False
        changes = {"architecture_changes": changes.pop("architecture", {}), **changes}
        bases = tuple(getattr(learning_variants, name) for name in (changes.pop("mixin", None),) if name)
        trainer_class = type(f"Learning_{variant}", (*bases, SAM2_3dMedTrainer_noPretrain_tuned), changes)
        seed_all(seed)
        self.trainer = trainer_class(plans, "3d", 0, dataset_json, torch.device("cpu"))
        self.trainer.num_epochs = iterations  # the schedule's unit is the iteration here
        self.trainer.initialize()
        self.seed, self.iterations = seed, iterations
        self.average = [p.detach().clone() for p in self.trainer.network.parameters()]
        self.seconds = 0.0

    def run(self, every: int, num_cases: int) -> Iterator[dict]:
        """Train, and yield what is recorded."""
        batches, _ = self.trainer.get_dataloaders()
        _, cases = self.trainer.get_tr_and_val_datasets()
        self.trainer.network.train()
        followed = self._followed()
        start, length, losses, norms = followed, 0.0, [], []
        for iteration in range(1, self.iterations + 1):
            seed_all(hash((self.seed, iteration)) % 2**31)
            began = time.perf_counter()
            batch = next(batches)
            self.trainer.lr_scheduler.step(iteration - 1)
            losses.append(float(self.trainer.train_step(batch)["loss"]))
            self.seconds += time.perf_counter() - began
            norms.append(float(torch.nn.utils.get_total_norm(self._gradients())))
            kept = min(0.98, iteration / (iteration + 9))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.trainer.network.parameters()], 1 - kept)
            before, followed = followed, self._followed()
            length += float((followed - before).norm())
            if iteration % every == 0 or iteration == self.iterations:
                network = self.trainer.network.eval()
                free = hasattr(self.trainer.optimizer, "eval")  # schedule-free: evaluation has other weights
                if free:
                    self.trainer.optimizer.eval()
                with features_of(network) as features:
                    dice = self.dice(cases, num_cases)
                with self._averaged():
                    averaged = self.dice(cases, num_cases)
                network.train()
                if free:
                    self.trainer.optimizer.train()
                yield {
                    "iteration": iteration,
                    "seconds": round(self.seconds, 1),
                    "loss": round(mean(losses), 4),
                    "dice": [round(d, 4) for d in dice],
                    "dice_of_average": [round(d, 4) for d in averaged],
                    "gradient_norm": round(mean(norms), 3),
                    "feature_size": round(mean(size for size, _ in features), 3),
                    "feature_share_of_places": round(mean(share for _, share in features), 3),
                    "share_of_path_that_cancels": round(1 - float((followed - start).norm()) / length, 3),
                }
                start, length, losses, norms = followed, 0.0, [], []

    def dice(self, cases: Any, num_cases: int) -> list[float]:
        """Mean Dice of each class over the first validation cases, whole, without mirroring."""
        trainer = self.trainer
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.manual_initialization(
            trainer.network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json, "", None
        )
        scores = []
        for case in cases.identifiers[:num_cases]:
            image, target, _, _ = cases.load_case(case)
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(image[:])))
            found, target = logits.argmax(0).numpy(), np.asarray(target[0])
            scores.append(
                [overlap(found == label, target == label) for label in trainer.label_manager.foreground_labels]
            )
        return [mean(score) for score in zip(*scores, strict=True)]

    def _gradients(self) -> list[torch.Tensor]:
        return [p.grad for p in self.trainer.network.parameters() if p.grad is not None]

    def _followed(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten()[::SAMPLED] for p in self.trainer.network.parameters()])

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """A context in which the network has the moving average of its weights."""
        parameters = list(self.trainer.network.parameters())
        own = [p.detach().clone() for p in parameters]
        set_all(parameters, self.average)
        yield
        set_all(parameters, own)


def set_all(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)  # the cache of slices sees that they change


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def overlap(found: np.ndarray, target: np.ndarray) -> float:
    """Dice; 1 where both are empty."""
    both = int(found.sum() + target.sum())
    return 2 * int((found & target).sum()) / both if both else 1.0


@contextmanager
def features_of(network: torch.nn.Module) -> Iterator[list[tuple[float, float]]]:
    """The root mean square of the encoder's stride-16 features, and the share that differs between places."""
    seen: list[tuple[float, float]] = []

    def look(_module, _arguments, features) -> None:
        level = features.stride16.float()
        different = level - level.mean(dim=(0, 1, 3, 4), keepdim=True)
        size = float(level.square().mean().sqrt())
        seen.append((size, float(different.square().mean().sqrt()) / size))

    handle = network.encoder.register_forward_hook(look)
    yield seen
    handle.remove()


# ---------------------------------------------------------------- results


def table(runs: dict[str, dict]) -> str:
    """Each variant at its last iteration: means over its seeds."""
    lines = [
        "| variant | iterations | cases | seeds | Dice | Dice of averaged weights | loss |"
        " features that differ | path that cancels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (variant, iterations, cases), group in grouped(runs).items():
        last = [run["curve"][-1] for run in group]
        cells = [
            spread(dice_at_end(group)),
            spread(dice_at_end(group, "dice_of_average")),
            *(f"{mean(point[key] for point in last):.2f}" for key in ("loss", "feature_share_of_places")),
            f"{mean(point['share_of_path_that_cancels'] for point in last):.2f}",
        ]
        lines.append(f"| {variant} | {iterations} | {cases} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def grouped(runs: dict[str, dict]) -> dict[tuple[str, int, int], list[dict]]:
    """Runs that differ in their seed alone, by variant, iterations and validation cases."""
    groups: dict[tuple[str, int, int], list[dict]] = {}
    for run in runs.values():
        groups.setdefault((run["variant"], run["iterations"], run["cases"]), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])))


def spread(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def draw(runs: dict[str, dict], file: Path) -> None:
    """Dice at the end of each training, a row for each variant and number of iterations."""
    import matplotlib.pyplot as plt

    groups = sorted(grouped(runs).items(), key=lambda item: (item[0][1], mean(dice_at_end(item[1]))))
    figure, axes = plt.subplots(figsize=(7, 1 + 0.26 * len(groups)))
    for row, (_, group) in enumerate(groups):
        axes.plot(dice_at_end(group), [row] * len(group), "o", color="C0")
        axes.plot(dice_at_end(group, "dice_of_average"), [row] * len(group), "o", color="C0", fillstyle="none")
    axes.plot([], [], "o", color="C0", label="weights")
    axes.plot([], [], "o", color="C0", fillstyle="none", label="moving average of the weights")
    axes.set_yticks(
        range(len(groups)), [f"{variant}, {iterations} iterations" for (variant, iterations, _), _ in groups]
    )
    axes.set_xlabel("Dice of whole validation cases, a dot for each seed")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def dice_at_end(group: list[dict], key: str = "dice") -> list[float]:
    return [mean(run["curve"][-1][key]) for run in group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--cases", type=int, default=8, help="validation cases of fold 0")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "learning.json")
    args = parser.parse_args()
    if unknown := set(args.variants) - set(VARIANTS):
        parser.error(f"there are no variants {', '.join(unknown)}, expected {', '.join(VARIANTS)}")
    runs = json.loads(args.output.read_text()) if args.output.is_file() else {}
    for seed in args.seeds:
        for variant in args.variants:
            key = f"{variant}, seed {seed}, {args.iterations} iterations, {args.cases} cases"
            if key in runs:
                continue
            # batches are made in this process, so that their random numbers are known
            os.environ["nnUNet_n_proc_DA"] = "0"
            run = {"variant": variant, "seed": seed, "iterations": args.iterations, "changes": VARIANTS[variant]}
            run |= {"cases": args.cases, "threads": torch.get_num_threads(), "curve": []}
            with TemporaryDirectory() as folder:
                os.environ["nnUNet_results"] = folder  # trainers make folders and logs
                for point in Training(variant, seed, args.iterations).run(args.every, args.cases):
                    print(key, json.dumps(point), flush=True)
                    run["curve"].append(point)
            runs = json.loads(args.output.read_text()) if args.output.is_file() else {}  # others may have written
            runs[key] = run
            beside = args.output.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps(runs, indent=1) + "\n")
            beside.replace(args.output)
    args.output.with_suffix(".md").write_text(table(runs))
    draw(runs, PICTURE)
    print(table(runs))


if __name__ == "__main__":
    main()
