"""Changes to the recipe for random weights that ``learning.py`` compares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.network import refinement
from nnunetv2_sam2_3dmed.network.fresh_trunk import keep_steady
from nnunetv2_sam2_3dmed.network.slice_encoder import SliceFeatures
from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule

PLAN = {"patch_size": (56, 40), "slices": 6, "batch_size": 8}

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
    "steady_batch_dice": {"plan": {**_64, "batch_dice": True}, "mixin": "SteadyFeatures"},
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
        self.network.encoder.register_forward_hook(lambda _module, _arguments, features: steadied(features))


def steadied(features: SliceFeatures) -> SliceFeatures:
    """The same features, as views of tensors whose gradients are modified."""
    stacks = features.stride16.shape[:2]
    levels = [level.flatten(0, 1) for level in features[:3]]
    keep_steady(levels)
    return SliceFeatures(*(level.unflatten(0, stacks) for level in levels), features.position)


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
    """Split stacks of six slices into three of two in the first half of the training."""

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
