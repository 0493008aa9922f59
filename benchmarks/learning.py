"""Short trainings from random weights of changes to the recipe, on the same batches, beside each other.

    python benchmarks/learning.py plain refined_2 refined_2_64px --seeds 0 1 2 --iterations 150

Needs MSD hippocampus as nnU-Net's dataset 4, preprocessed for 3d_fullres (``nnUNetv2_convert_MSD_dataset``,
``nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres``). Of each variant and seed, a training of fold 0 with a fixed number
of iterations and a learning rate that falls over them. The seed sets the weights and which cases, crops and
augmentations each batch has, the same in all variants of one image size. What is in the result file already is not
trained again. From all of it the table learning.md and docs/images/learning.png are made.

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
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.network import refinement
from nnunetv2_sam2_3dmed.network.fresh_trunk import keep_steady
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "learning.png"
PIXELS = 96
PLAN = {"patch_size": (56, 40), "slices": 6, "batch_size": 8}
SAMPLED = 101  # one weight in so many is followed

# what each variant has, other than SAM2_3dMedTrainer_noPretrain_tuned and the plan; "plan" changes the plan, "mixin"
# names a class of changed methods, all else are attributes
_64 = {"image_size": 64}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"architecture": {"refine_masks": 0}},
    "plain_64px": {"architecture": {"refine_masks": 0}, "plan": _64},
    "refined_2": {"architecture": {"refine_masks": 2}},
    "refined_2_128px": {"architecture": {"refine_masks": 2}, "plan": {"image_size": 128}},
    "refined_1_64px": {"architecture": {"refine_masks": 1}, "plan": _64},
    "refined_2_64px": {"architecture": {"refine_masks": 2}, "plan": _64},
    "refined_3_64px": {"architecture": {"refine_masks": 3}, "plan": _64},
    "refined_4_64px": {"architecture": {"refine_masks": 4}, "plan": _64},
    # one change each to refined_4_64px
    "unet_alone": {"plan": _64, "mixin": "UNetAlone"},
    "wide": {"plan": _64, "mixin": "Wide"},
    "neighbours": {"plan": _64, "mixin": "Neighbours"},
    "lr_1e-3": {"plan": _64, "peak_lr": 1e-3},
    "lr_2e-4": {"plan": _64, "peak_lr": 2e-4},
    "batch_4": {"plan": {**_64, "batch_size": 4}},
    "batch_16": {"plan": {**_64, "batch_size": 16}},
    "noBD": {"architecture": {"boundary": False}, "plan": _64},
    "noSRPP": {"architecture": {"srpp": False}, "plan": _64},
    "steady": {"plan": _64, "mixin": "SteadyFeatures"},
    "beta2_0.95": {"plan": _64, "mixin": "FasterSecondMoment"},
    "muon": {"plan": _64, "mixin": "WithMuon"},
    "schedule_free": {"plan": _64, "mixin": "ScheduleFree"},
    "pairs_first": {"plan": _64, "mixin": "PairsFirst"},
    "slices_12": {"plan": {**_64, "slices": 12, "batch_size": 4}},
    "batch_dice": {"plan": {**_64, "batch_dice": True}},
    "dice_alone": {"plan": _64, "mixin": "DiceAlone"},
    "nnunet_augmentation": {"plan": _64, "mixin": "NNUNetAugmentation"},
    "oversampled_0.66": {"plan": _64, "mixin": "MoreForeground"},
    "oversampled_0": {"plan": _64, "mixin": "NoOversampling"},
}


class UNetAlone:
    """The refinement's U-Net without what SAM 2's decoder finds: a 2D U-Net, as a control."""

    def initialize(self) -> None:
        super().initialize()
        refine = self.network.segmentation.refinement
        channels = refine.last.out_channels
        refine.own = torch.nn.Parameter(
            torch.randn(self.label_manager.num_segmentation_heads - 1, channels) / channels**0.5
        )
        torch.nn.init.kaiming_uniform_(refine.last.weight)
        self.optimizer.add_param_group({"params": [refine.own]})
        self.lr_scheduler.peaks.append(self.peak_lr)
        forward = refine.forward

        def alone(masks: Any, pixels: Any, weights: Any, images: Any) -> Any:
            return forward(masks * 0, pixels * 0, refine.own.expand_as(weights), images)

        refine.forward = alone


class Wide:
    """Twice the channels in the refinement, nnU-Net's 32 to 256."""

    @classmethod
    def build_network_architecture(cls, plans_manager: Any, *args: Any) -> Any:  # nnU-Net looks at the first name
        narrow, refinement._WIDTHS = refinement._WIDTHS, (32, 64, 128, 256)
        try:
            return super().build_network_architecture(plans_manager, *args)
        finally:
            refinement._WIDTHS = narrow


class Neighbours:
    """The refinement sees the slices before and behind, too."""

    @classmethod
    def build_network_architecture(cls, plans_manager: Any, *args: Any) -> Any:  # nnU-Net looks at the first name
        network = super().build_network_architecture(plans_manager, *args)
        refine = network.segmentation.refinement
        first = refine.down[0][0]
        refine.down[0][0] = torch.nn.Conv2d(9, first.out_channels, 3, 1, 1, bias=False)
        forward, depth = refine.forward, cls.depth

        def with_neighbours(masks: Any, pixels: Any, weights: Any, images: Any) -> Any:
            stacks = images.unflatten(0, (-1, depth))
            before = torch.cat([stacks[:, :1], stacks[:, :-1]], dim=1)
            behind = torch.cat([stacks[:, 1:], stacks[:, -1:]], dim=1)
            return forward(masks, pixels, weights, torch.cat([before, stacks, behind], dim=2).flatten(0, 1))

        refine.forward = with_neighbours
        return network

    depth = PLAN["slices"]


class SteadyFeatures:
    """``keep_steady`` on the encoder's features, as the promptable model trains."""

    def initialize(self) -> None:
        super().initialize()
        self.network.encoder.register_forward_hook(lambda _module, _arguments, features: keep_steady_of(features))


def keep_steady_of(features: Any) -> None:
    levels = [level for level in features if isinstance(level, torch.Tensor)]
    keep_steady([level.flatten(0, 1) if level.ndim == 5 else level for level in levels])


class FasterSecondMoment:
    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        optimizer, schedule = super().configure_optimizers()
        for group in optimizer.param_groups:
            group["betas"] = (0.9, 0.95)
        return optimizer, schedule


class Together:
    """Several optimizers as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


class WithMuon:
    """Matrices of the transformers by Muon, whose steps are scaled to AdamW's size, all else by AdamW."""

    def configure_optimizers(self) -> tuple[Any, Any]:
        trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        matrices = [p for name, p in trained.items() if p.ndim == 2 and "embed" not in name and "token" not in name]
        others = [p for p in trained.values() if not any(p is matrix for matrix in matrices)]
        optimizer = Together(
            torch.optim.Muon(matrices, lr=self.peak_lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=self.peak_lr, weight_decay=0.1, fused=True),
        )
        return optimizer, CosineSchedule(optimizer, self.num_epochs, self.warmup_share * self.num_epochs)


class ScheduleFree:
    """Schedule-free AdamW (Defazio et al. 2024, the package ``schedulefree``): a constant rate and an average."""

    def configure_optimizers(self) -> tuple[Any, Any]:
        from schedulefree import AdamWScheduleFree

        parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = AdamWScheduleFree(parameters, lr=self.peak_lr, weight_decay=0.1, warmup_steps=20)
        optimizer.train()
        return optimizer, SimpleNamespace(step=lambda _: None)


class PairsFirst:
    """For the first half of the training, stacks of six slices are three stacks of two."""

    def train_step(self, batch: dict) -> dict:
        if self.lr_scheduler.seen < self.num_epochs / 2:
            batch = {**batch, **{key: pairs_of(batch[key]) for key in ("data", "target")}}
        return super().train_step(batch)

    def configure_optimizers(self) -> tuple[Any, Any]:
        optimizer, schedule = super().configure_optimizers()
        step, schedule.seen = schedule.step, 0

        def remembered(epoch: float) -> None:
            schedule.seen = epoch
            step(epoch)

        schedule.step = remembered
        return optimizer, schedule


def pairs_of(stacks: torch.Tensor) -> torch.Tensor:
    """(B, C, D, H, W) as (B * D / 2, C, 2, H, W)."""
    batch, channels, depth, *size = stacks.shape
    split = stacks.reshape(batch, channels, depth // 2, 2, *size).transpose(1, 2)
    return split.reshape(batch * depth // 2, channels, 2, *size)


class DiceAlone:
    def segmentation_loss(self) -> Any:
        dice = super().segmentation_loss().dice
        return lambda logits, targets: dice(logits, targets.masks, loss_mask=targets.counted)


class NNUNetAugmentation:
    """nnU-Net's own augmentation, of slices (its "dummy 2D"): scaled, rotated, noise, blur, brightness, gamma."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:
        super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        height, width = self.configuration_manager.patch_size[1:]
        depth = self.configuration_manager.patch_size[0]
        angle = (-np.pi, np.pi) if max(height, width) / min(height, width) <= 1.5 else (-np.pi / 12, np.pi / 12)
        size = [int(side) for side in get_patch_size([height, width], *[angle] * 3, (0.85, 1.25))]
        return angle, True, [depth, *size], (2,)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        return nnUNetTrainer.get_training_transforms(*args, **kwargs)


class MoreForeground:
    def initialize(self) -> None:
        super().initialize()
        self.oversample_foreground_percent = 0.66


class NoOversampling:
    def initialize(self) -> None:
        super().initialize()
        self.oversample_foreground_percent = 0.0


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
        bases = tuple(globals()[name] for name in (changes.pop("mixin", None),) if name)
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
    parser.add_argument("--iterations", type=int, default=150)
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
