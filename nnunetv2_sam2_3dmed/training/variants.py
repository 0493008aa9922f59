"""Variants of the trainer: each overrides only the part that its name states.

``ablations.py`` has those of the paper's tables; here are other ways to train.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2
from nnunetv2_sam2_3dmed.training.inner_split import inner_split
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SegmentationLoss
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


class SAM2_3dMedTrainer_DiceBCE(SAM2_3dMedTrainer):
    """With nnU-Net's soft Dice loss beside the paper's cross entropy."""

    def segmentation_loss(self) -> SegmentationLoss:
        return DiceBCELoss(self.configuration_manager.batch_dice, self.is_ddp)


class SAM2_3dMedTrainer_SRPPmm(SAM2_3dMedTrainer):
    """SRPP states offsets in millimetres instead of slices.

    nnU-Net resamples all cases of a dataset to one spacing, so that within one dataset this scales the offsets
    by a constant; between datasets the same distance in the body becomes the same number. The loss stays in
    slices squared: lambda_1 means the same with either unit.
    """

    def slice_distance(self) -> float:
        return float(self.configuration_manager.spacing[0])


class SAM2_3dMedTrainer_bidirectional(SAM2_3dMedTrainer):
    """Memory runs over the slices in both directions; the logits are averaged."""

    architecture_changes = {"bidirectional": True}


class SAM2_3dMedTrainer_lowMemory(SAM2_3dMedTrainer):
    """Activation checkpointing in both branches: less memory, more time."""

    architecture_changes = {"activation_checkpointing": True}


class SAM2_3dMedTrainer_trainTrunk(SAM2_3dMedTrainer):
    """The Hiera trunk trains too."""

    architecture_changes = {"freeze_trunk": False}


class SAM2_3dMedTrainer_MedSAM2Rates(SAM2_3dMedTrainer_trainTrunk):
    """Everything trains, at MedSAM2's two learning rates: 3e-5 for the trunk, 5e-5 for the rest.

    MedSAM2 has the lower one for the whole image encoder; here the neck of the encoder, which trains in all variants,
    keeps 5e-5.
    """

    trunk_lr = 3e-5


class SAM2_3dMedTrainer_LoRA(SAM2_3dMedTrainer):
    """The frozen trunk's attention layers get trained updates of low rank."""

    architecture_changes = {"lora_rank": 8}


class SAM2_3dMedTrainer_MedSAM2(SAM2_3dMedTrainer):
    """Training from MedSAM2's weights (a SAM 2.1 tiny) instead of SAM 2's."""

    checkpoint = MEDSAM2


class SAM2_3dMedTrainer_noPretrain(SAM2_3dMedTrainer_trainTrunk):
    """The paper's "w/o Pre-train" (Tables 2 and 3): random weights, all else as ``SAM2_3dMedTrainer``.

    The paper trains it "under identical training settings and hyperparameters" (section 4.3), so learning rate,
    dropout, attention windows, loss and augmentation are the base trainer's. Three things are our reading. The trunk
    trains: a frozen trunk of random weights would learn nothing, and the paper calls the model "trained from scratch"
    (appendix D.1). The whole network starts from random weights, not only the image encoder and memory attention that
    section 4.3 names. And position embeddings, which SAM 2's code leaves at zero for a checkpoint to fill, start as
    sines. At this learning rate it learns slowly: ``SAM2_3dMedTrainer_noPretrain_tuned`` has a recipe for random
    weights.
    """

    pretrained = False


class SAM2_3dMedTrainer_noPretrain_tuned(SAM2_3dMedTrainer_DiceBCE, SAM2_3dMedTrainer_noPretrain):
    """Random weights with our own recipe, for data or machines without SAM 2's checkpoint; not a row of the paper.

    At the paper's 5e-5 a fresh transformer hardly moves; 4e-4 and 1e-3 did equally well in one short training each.
    Dropout in memory attention, which SAM 2 has against overfitting a large dataset for long, only slows a fresh
    network down. Attention windows larger than the image, which SAM 2 pads, are fitted to it. The loss has nnU-Net's
    soft Dice beside the cross entropy. Stacks are rotated and sheared in three of ten cases instead of always, and
    never tiled. A U-Net on each slice takes the masks from a quarter of the image's resolution to the whole of it,
    which learns faster (docs/explanation/random_weights.md) and lets small images suffice.
    """

    architecture_changes = {"dropout": 0.0, "fitted_windows": True, "refine_masks": 4}
    peak_lr = 4e-4
    warmup_share = 0.02
    affine_probability = 0.3
    mosaic_probability = 0.0


class SAM2_3dMedTrainer_casesPerEpoch(SAM2_3dMedTrainer):
    """An epoch has as many batches as hold each training case once; the paper does not say what an epoch is.

    nnU-Net's epochs have 250 batches whatever the dataset. With 32 training cases (spleen) and batches of 4, an epoch
    is 8 batches here, and the paper's 500 epochs show 16,000 stacks instead of 500,000. Cases and patches are still
    drawn at random by nnU-Net, so that a case comes once per epoch on average. The pseudo Dice is of as many batches as
    hold each validation case once. Patience and learning rate follow these shorter epochs.

    With ``SAM2_3dMedTrainer_innerSplit``, inherit from this class first: it counts the cases that the next one trains
    on.
    """

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        train, val = super().get_tr_and_val_datasets()
        batch_size = self.configuration_manager.batch_size  # over all GPUs
        # of merged cases, each as often as its rate says
        self.num_iterations_per_epoch = math.ceil(len(train.identifiers) / batch_size)
        self.num_val_iterations_per_epoch = math.ceil(len(val.identifiers) / batch_size)
        self.print_to_log_file(
            f"An epoch is {self.num_iterations_per_epoch} batches of {len(set(train.identifiers))} training cases, and "
            f"{self.num_val_iterations_per_epoch} of {len(val.identifiers)} cases for the pseudo Dice."
        )
        return train, val


class SAM2_3dMedTrainer_innerSplit(SAM2_3dMedTrainer):
    """Early stopping and ``checkpoint_best`` go by a fifth of the fold's training cases, which is not trained on.

    nnU-Net's pseudo Dice is of the fold's validation cases, and so is the final validation: a training that stops by it
    is chosen by the cases that it is scored on. Here the final validation still scores the fold's validation cases, but
    nothing was chosen by them. ``inner_split.json`` beside the checkpoints says which cases were set aside;
    ``sam2_3dmed compare`` looks for it. Cases of one subject can come to lie on both sides of the inner split.
    """

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        outer, _ = super().get_tr_and_val_datasets()
        split = inner_split(sorted(set(outer.identifiers)))  # once each, whatever their rates
        if self.local_rank == 0:
            split.write(Path(self.output_folder))
        self.print_to_log_file(
            f"Inner split: {len(split.train)} cases are trained on; the pseudo Dice is of {', '.join(split.val)}."
        )
        train, val = (
            self.dataset_class(
                self.preprocessed_dataset_folder,
                cases,
                folder_with_segs_from_previous_stage=self.folder_with_segs_from_previous_stage,
            )
            for cases in split
        )
        return self.as_drawn(train, val)
