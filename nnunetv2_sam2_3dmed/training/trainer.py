"""SAM2_3dMedTrainer: the paper's recipe as an nnU-Net trainer."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.weights import installed_checkpoint, load_sam2_weights
from nnunetv2_sam2_3dmed.training.augmentation import paper_transforms, patch_size_to_load
from nnunetv2_sam2_3dmed.training.checks import check_configuration
from nnunetv2_sam2_3dmed.training.loss_logger import LossTermsLogger
from nnunetv2_sam2_3dmed.training.losses import SAM2_3dMedLoss, SegmentationLoss, bce_loss
from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL, TargetMaker

LEFT_RIGHT = 2  # the last axis of a slice


class SAM2_3dMedTrainer(nnUNetTrainer):
    """SAM2-3dMed with pretrained weights, a frozen trunk, and the paper's recipe (appendix B).

    AdamW at 5e-5 with weight decay 0.1, cosine to one tenth over 500 epochs, binary cross entropy plus
    0.01 L_srpp plus 0.1 L_bd, and the paper's augmentations. Variants are subclasses that override one of
    the attributes or hooks below.
    """

    pretrained: ClassVar[bool] = True
    architecture_changes: ClassVar[dict[str, Any]] = {}  # over what the plan says
    peak_lr: ClassVar[float] = 5e-5
    warmup_share: ClassVar[float] = 0.0  # of all epochs
    srpp_weight: ClassVar[float] = 0.01
    boundary_weight: ClassVar[float] = 0.1
    max_gradient_norm: ClassVar[float] = 12.0  # nnU-Net's

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        check_configuration(plans, configuration, dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.peak_lr
        self.weight_decay = 0.1
        self.num_epochs = 500
        self.enable_deep_supervision = False
        # the network chooses its own precision: bfloat16, which needs no loss scaling, or float32
        self.grad_scaler = None
        self.resumed = False
        self.logger.local_logger = LossTermsLogger(self.loss_terms())

    # ---------------------------------------------------------------- network

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Builds the network that the plan describes; SAM 2's weights are not needed for that."""
        return get_network_from_plans(
            configuration_manager.network_arch_class_name,
            cls.architecture_of(configuration_manager),
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=False,
            deep_supervision=None,
        )

    @classmethod
    def architecture_of(cls, configuration_manager) -> dict[str, Any]:
        """The network's arguments for this trainer: the plan's, with what the trainer changes."""
        return {**configuration_manager.network_arch_init_kwargs, **cls.architecture_changes}

    def loss_terms(self) -> list[str]:
        """Names of the terms that this trainer's loss has."""
        architecture = self.architecture_of(self.configuration_manager)
        optional = {"srpp": "srpp", "boundary": "boundary"}
        return ["segmentation", *(term for term, option in optional.items() if architecture.get(option, True))]

    def initialize(self) -> None:
        """Builds everything; fills the network from the SAM 2 checkpoint unless a training goes on.

        Raises:
            UserError: the checkpoint is missing, unreadable or another backbone's.
        """
        wanted = self.pretrained and not self.resumed and not self.was_initialized
        if wanted:
            backbone = self.architecture_of(self.configuration_manager).get("backbone", "sam2.1_hiera_tiny")
            checkpoint = installed_checkpoint(backbone)
        super().initialize()
        if wanted:
            for report in load_sam2_weights(self.plain_network(), checkpoint):
                self.print_to_log_file(
                    f"{checkpoint.name} -> {report.component}: {report.taken} tensors taken, "
                    f"{report.adapted} adapted, {report.fresh} left fresh"
                )

    def plain_network(self) -> SAM2_3dMed:
        """The network without wrappers."""
        return self.network.module if self.is_ddp else self.network

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """As nnU-Net's; the SAM 2 file is not needed, all weights are in the checkpoint."""
        self.resumed = True
        super().load_checkpoint(filename_or_checkpoint)

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net's, but written beside and renamed: an interruption leaves no torn checkpoint."""
        partial = f"{filename}.partial"
        super().save_checkpoint(partial)
        if self.local_rank == 0 and not self.disable_checkpointing:
            os.replace(partial, filename)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is no deep supervision."""

    def _do_i_compile(self) -> bool:
        # SAM 2's rotary encoding works on complex numbers, which torch.compile does not take
        return False

    # ---------------------------------------------------------- optimization

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, CosineSchedule]:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        # one fused pass over the parameters, on CPU as well
        optimizer = torch.optim.AdamW(trained, lr=self.initial_lr, weight_decay=self.weight_decay, fused=True)
        return optimizer, CosineSchedule(optimizer, self.num_epochs, self.warmup_share * self.num_epochs)

    def segmentation_loss(self) -> SegmentationLoss:
        """L_seg: the paper's is binary cross entropy."""
        return bce_loss

    def _build_loss(self) -> SAM2_3dMedLoss:
        labels = self.label_manager
        regions = labels.foreground_regions if labels.has_regions else []
        targets = TargetMaker(
            [] if labels.has_regions else labels.foreground_labels,
            labels.ignore_label,
            regions=labels.has_regions,
            num_regions=len(regions),
        )
        return SAM2_3dMedLoss(targets, self.segmentation_loss(), self.srpp_weight, self.boundary_weight)

    def train_step(self, batch: dict) -> dict:
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.loss.terms(self.network(data), target)
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        self.optimizer.step()
        values = {"loss": terms.total, **{name: getattr(terms, name) for name in self.loss_terms()}}
        return {name: value.detach().cpu().numpy() for name, value in values.items()}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        collated = collate_outputs(train_outputs)
        for term in self.loss_terms():
            value = float(np.mean(collated[term]))
            if self.is_ddp:
                everywhere = [0.0] * dist.get_world_size()
                dist.all_gather_object(everywhere, value)
                value = float(np.mean(everywhere))
            self.logger.log(LossTermsLogger.key(term), value, self.current_epoch)

    def on_epoch_end(self) -> None:
        terms = {term: self.logger.get_value(LossTermsLogger.key(term), step=-1) for term in self.loss_terms()}
        self.print_to_log_file("train_loss terms", {name: round(value, 4) for name, value in terms.items()})
        super().on_epoch_end()

    # ------------------------------------------------------------------ data

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """In-plane augmentation only, and only the left-right flip, in training and at test time."""
        self.inference_allowed_mirroring_axes = (LEFT_RIGHT,)
        patch_size = patch_size_to_load(self.configuration_manager.patch_size)
        return None, True, patch_size, self.inference_allowed_mirroring_axes

    @staticmethod
    def get_training_transforms(
        patch_size,
        rotation_for_DA,
        deep_supervision_scales,
        mirror_axes,
        do_dummy_2d_data_aug,
        use_mask_for_norm=None,
        is_cascaded=False,
        foreground_labels=None,
        regions=None,
        ignore_label=None,
    ) -> BasicTransform:
        """The paper's augmentations; padding stays marked in the target, so that SRPP can leave it out."""
        transforms = paper_transforms(patch_size[1:], mirror_axes)
        if use_mask_for_norm is not None and any(use_mask_for_norm):
            masked = [channel for channel, use in enumerate(use_mask_for_norm) if use]
            transforms.append(MaskImageTransform(apply_to_channels=masked, channel_idx_in_seg=0, set_outside_to=0))
        if regions is not None:
            ignored = [] if ignore_label is None else [ignore_label]
            transforms.append(
                ConvertSegmentationToRegionsTransform([*regions, *ignored, PADDING_LABEL], channel_in_seg=0)
            )
        return ComposeTransforms(transforms)
