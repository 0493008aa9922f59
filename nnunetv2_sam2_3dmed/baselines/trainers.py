"""MedNeXt, SwinUNETR and UNETR as nnU-Net trainers.

Each differs from ``nnUNetTrainer`` in its network and its optimizer, which follow the authors' code as far
as nnU-Net allows. Plans, folds, loss, augmentation, 1000 epochs of 250 iterations and mixed precision
are nnU-Net's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule

from nnunetv2_sam2_3dmed.baselines.networks import mednext, monai_nets, swin_unetr, unetr
from nnunetv2_sam2_3dmed.baselines.padding import deep_supervision_size
from nnunetv2_sam2_3dmed.baselines.schedule import WarmupCosineSchedule
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer


class MonaiTrainer(CheckedTraining, WholeFilesTrainer):
    """nnU-Net's trainer around a network of MONAI, without deep supervision.

    Raises:
        UserError: MONAI is missing, or the configuration is two-dimensional.
    """

    peak_lr: ClassVar[float]
    decay: ClassVar[float]

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        monai_nets()
        patch_size = PlansManager(plans).get_configuration(configuration).patch_size
        if len(patch_size) != 3:
            raise UserError(
                f"the configuration {configuration!r} is two-dimensional (patch {list(patch_size)}), but "
                f"{type(self).__name__} needs a three-dimensional one: use `3d_fullres` or `3d_lowres`."
            )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.peak_lr
        self.weight_decay = self.decay
        self.enable_deep_supervision = False

    @classmethod
    def build(
        cls, input_channels: int, output_channels: int, patch_size: Sequence[int], deep_supervision: bool
    ) -> nn.Module:
        """Build the network for patches of a size."""
        raise NotImplementedError

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        return cls.build(
            num_input_channels, num_output_channels, configuration_manager.patch_size, enable_deep_supervision
        )

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: there is no deep supervision."""


class WarmupCosineTrainer(MonaiTrainer):
    """AdamW at 1e-4 with weight decay 1e-5, warm-up and cosine, as in the authors' code of UNETR and SwinUNETR.

    Both have these defaults in ``BTCV/main.py`` of github.com/Project-MONAI/research-contributions, with 50 epochs of
    warm-up. The learning rate changes with each iteration, because an epoch of nnU-Net is long for a warm-up.
    """

    peak_lr = 1e-4
    decay = 1e-5
    warmup_share: ClassVar[float] = 0.05  # 50 of the 1000 epochs that nnU-Net and both papers train for
    _iteration = 0  # within the epoch; a step that triggers compilation comes before the first one

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupCosineSchedule]:
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay, fused=True
        )
        return optimizer, WarmupCosineSchedule(optimizer, self.num_epochs, self.warmup_share * self.num_epochs)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._iteration = 0

    def train_step(self, batch: dict) -> dict:
        self._iteration += 1
        self.lr_scheduler.step(self.current_epoch + self._iteration / self.num_iterations_per_epoch)
        return super().train_step(batch)


class nnUNetTrainer_SwinUNETR(WarmupCosineTrainer):
    """SwinUNETR: a Swin transformer encoder with a convolutional decoder, from random weights."""

    @classmethod
    def build(
        cls, input_channels: int, output_channels: int, patch_size: Sequence[int], deep_supervision: bool
    ) -> nn.Module:
        return swin_unetr(input_channels, output_channels)


class nnUNetTrainer_UNETR(WarmupCosineTrainer):
    """UNETR: a plain vision transformer encoder with a convolutional decoder."""

    @classmethod
    def build(
        cls, input_channels: int, output_channels: int, patch_size: Sequence[int], deep_supervision: bool
    ) -> nn.Module:
        return unetr(input_channels, output_channels, patch_size)


class nnUNetTrainer_MedNeXt_S(MonaiTrainer):
    """MedNeXt-S: a U-Net of ConvNeXt blocks, with deep supervision.

    AdamW at 1e-3 with nnU-Net's polynomial schedule and weight decay, and an epsilon of 1e-4, because 1e-8 may give
    NaN in float16: ``nnUNetTrainerV2_MedNeXt.py`` of github.com/MIC-DKFZ/MedNeXt. As there, five outputs are
    supervised with weights that halve, of which the last is zero.
    """

    size: ClassVar[str] = "S"
    peak_lr = 1e-3
    decay = 3e-5
    epsilon: ClassVar[float] = 1e-4
    supervised_levels: ClassVar[int] = 5

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = True

    @classmethod
    def build(
        cls, input_channels: int, output_channels: int, patch_size: Sequence[int], deep_supervision: bool
    ) -> nn.Module:
        return mednext(cls.size, input_channels, output_channels, deep_supervision)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch the coarse outputs on or off."""
        network: Any = self.network.module if self.is_ddp else self.network
        if isinstance(network, OptimizedModule):
            network = network._orig_mod
        network.set_deep_supervision(enabled)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Return the sizes of MedNeXt's outputs, instead of those of the U-Net in the plan, as shares of the patch."""
        if not self.enable_deep_supervision:
            return None
        patch_size = self.configuration_manager.patch_size
        sizes = [deep_supervision_size(patch_size, level) for level in range(self.supervised_levels)]
        return [[n / whole for n, whole in zip(size, patch_size)] for size in sizes]

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.initial_lr,
            weight_decay=self.weight_decay,
            eps=self.epsilon,
            fused=True,
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class nnUNetTrainer_MedNeXt_B(nnUNetTrainer_MedNeXt_S):
    """MedNeXt-B: wider blocks."""

    size = "B"


class nnUNetTrainer_MedNeXt_M(nnUNetTrainer_MedNeXt_S):
    """MedNeXt-M: wider blocks, and more of them."""

    size = "M"


class nnUNetTrainer_MedNeXt_L(nnUNetTrainer_MedNeXt_S):
    """MedNeXt-L: the widest blocks, and the most of them."""

    size = "L"
