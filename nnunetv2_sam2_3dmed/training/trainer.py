"""SAM2_3dMedTrainer: the paper's recipe as an nnU-Net trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_sam2_3dmed.errors import UserError, in_one_line
from nnunetv2_sam2_3dmed.network.checkpoints import (
    CHECKPOINTS,
    installed_checkpoint,
    recorded_sha256,
    sha256_of,
    weights_folder,
)
from nnunetv2_sam2_3dmed.network.compilation import compiler_errors, give_up, has_given_up
from nnunetv2_sam2_3dmed.network.precision import dtype_for
from nnunetv2_sam2_3dmed.network.weights import load_sam2_weights
from nnunetv2_sam2_3dmed.nnunet.sources import sources_of
from nnunetv2_sam2_3dmed.training.augmentation import InPlaneAffineTransform, paper_transforms, patch_size_to_load
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.checks import check_configuration, check_slices
from nnunetv2_sam2_3dmed.training.cuda_graph import GraphedStep
from nnunetv2_sam2_3dmed.training.distributed import check_shares, device_of_this_process
from nnunetv2_sam2_3dmed.training.epoch import run_epoch
from nnunetv2_sam2_3dmed.training.loss_logger import LossTermsLogger
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, LossTerms, SAM2_3dMedLoss, SegmentationLoss, bce_loss
from nnunetv2_sam2_3dmed.training.memory import out_of_memory_explained
from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule, EarlyStopping
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL, TargetMaker
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer

LEFT_RIGHT = 2  # the last axis of a slice
# environment variables: ours, 0 to launch each operation of a step by itself, and nnU-Net's
CUDA_GRAPHS, COMPILE = "SAM2_3dMed_cuda_graphs", "nnUNet_compile"


def numbers_in(loss: Any) -> dict[str, float]:
    """Return the weights and other numbers among the attributes of a loss."""
    return {name: value for name, value in vars(loss).items() if isinstance(value, (int, float))}


class SAM2_3dMedTrainer(CheckedTraining, WholeFilesTrainer):
    """SAM2-3dMed with pretrained weights, a frozen trunk, and the paper's recipe (appendix B).

    AdamW at 5e-5 with weight decay 0.1, cosine to one tenth over 500 epochs, early stopping, binary cross
    entropy plus 0.01 L_srpp plus 0.1 L_bd, and the paper's augmentations. Variants are subclasses that
    override one of the attributes or hooks below; what two of them change can be had by inheriting from both.

    The paper does not say what an epoch is: here it is nnU-Net's 250 batches, in ``_casesPerEpoch`` as many as hold
    each training case once. Early stopping goes by nnU-Net's pseudo Dice on the fold's validation cases, in
    ``_innerSplit`` on training cases that are set aside.
    """

    is_ddp: bool  # nnU-Net's
    network: Any
    graphed_step: GraphedStep | None = None
    graphs_wanted = True

    pretrained: ClassVar[bool] = True
    checkpoint: ClassVar[str | None] = None  # a key of CHECKPOINTS; None: the one of the plan's backbone
    # network options that override the plan's; those of all parent classes are merged
    architecture_changes: ClassVar[dict[str, Any]] = {}
    required_slices: ClassVar[int | None] = None  # of the configuration
    patience: ClassVar[int] = 50  # epochs without a new best moving average of the pseudo Dice
    peak_lr: ClassVar[float] = 5e-5
    trunk_lr: float | None = None  # where the trunk has a learning rate of its own
    trunk_prefix: ClassVar[str] = "encoder.trunk."  # of the names of its parameters
    find_unused_parameters: ClassVar[bool] = False  # on several GPUs: not every step uses all that trains
    warmup_share: ClassVar[float] = 0.0  # of all epochs
    srpp_weight: ClassVar[float] = 0.01
    boundary_weight: ClassVar[float] = 0.1
    max_gradient_norm: ClassVar[float] = 12.0  # nnU-Net's
    affine_probability: ClassVar[float] = 1.0
    mosaic_probability: ClassVar[float] = 0.15
    noise_probability: ClassVar[float] = 0.1
    blur_probability: ClassVar[float] = 0.2

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        check_configuration(plans, configuration, dataset_json, self.required_slices)
        check_slices(plans, configuration, type(self).__name__, self.required_slices)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp:
            self.device = device_of_this_process(device)
        self.sources = sources_of(dataset_json)
        self.initial_lr = self.peak_lr
        self.weight_decay = 0.1
        self.num_epochs = 500
        self.enable_deep_supervision = False
        # nnU-Net forces a share of each batch, rounded down, to show foreground: none of a batch of one
        self.probabilistic_oversampling = not self.is_ddp and self.configuration_manager.batch_size == 1
        # the network chooses its own precision; of those, float16 alone needs its losses scaled
        precision = self.architecture_of(self.configuration_manager).get("precision", "auto")
        scaled = dtype_for(self.device, precision) == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type) if scaled else None
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
        """Build the network that the plan describes; SAM 2's weights are not needed for that."""
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
        """The network's arguments for this trainer: the plan's, with what the trainer and its bases change."""
        arguments = dict(configuration_manager.network_arch_init_kwargs)
        for base in reversed(cls.__mro__):
            arguments.update(vars(base).get("architecture_changes", {}))
        return arguments

    def loss_terms(self) -> list[str]:
        """Return the names of the terms of this trainer's loss."""
        architecture = self.architecture_of(self.configuration_manager)
        optional = {"srpp": "srpp", "boundary": "boundary"}
        return ["segmentation", *(term for term, option in optional.items() if architecture.get(option, True))]

    def initialize(self) -> None:
        """Build everything; fill the network from the SAM 2 checkpoint unless a training goes on.

        Raises:
            UserError: the checkpoint is missing, unreadable or another backbone's; the batch is too small for
                this many processes.
        """
        wanted = self.pretrained and not self.resumed and not self.was_initialized
        if wanted:
            checkpoint = self._find_checkpoint()
        # nnU-Net's own wrapping holds on one machine with GPUs only: it takes the global rank for the number of
        # the GPU, and broadcasts buffers in every forward pass, which hangs in the final validation, where the
        # processes have different numbers of passes
        distributed, self.is_ddp = self.is_ddp, False
        try:
            super().initialize()
        finally:
            self.is_ddp = distributed
        if wanted:
            self._log_provenance(checkpoint)
            self._load_pretrained(checkpoint)
        if distributed:
            self._distribute()

    def _find_checkpoint(self) -> Path:
        """Return the installed file; if one process lacks it, all raise instead of waiting for that one."""
        backbone = self.architecture_of(self.configuration_manager).get("backbone", "sam2.1_hiera_tiny")
        name = self.checkpoint or backbone
        if CHECKPOINTS[name].backbone != backbone:
            raise UserError(
                f"{type(self).__name__} starts from {name}, a {CHECKPOINTS[name].backbone}, but the plan's backbone is "
                f"{backbone}: repeat your `sam2_3dmed plan -d {self.plans_manager.dataset_name} ...` with --backbone "
                f"{CHECKPOINTS[name].backbone}."
            )
        checkpoint, problem = weights_folder() / f"{name}.pt", None
        try:
            checkpoint = installed_checkpoint(name)
        except UserError as error:
            problem = str(error)
        problems = [problem]
        if self.is_ddp:
            problems = [None] * dist.get_world_size()
            dist.all_gather_object(problems, problem)
        for found in problems:
            if found is not None:
                raise UserError(found)
        return checkpoint

    def _log_provenance(self, checkpoint: Path) -> None:
        if self.local_rank == 0:
            sha256, recorded = sha256_of(checkpoint), recorded_sha256(checkpoint)
            changed = "" if recorded in (None, sha256) else f" (changed: {recorded} when it was installed)"
            self.print_to_log_file(f"{checkpoint}, SHA-256 {sha256}{changed}")

    def _load_pretrained(self, checkpoint: Path) -> None:
        for report in load_sam2_weights(self.network, checkpoint):
            self.print_to_log_file(
                f"{checkpoint.name} -> {report.component}: {report.taken} tensors taken, "
                f"{report.adapted} adapted, {report.fresh} left fresh"
            )

    def _distribute(self) -> None:
        """Set this process's share of the batch, build the loss over all processes, and wrap the network."""
        whole = isinstance(self.segmentation_loss(), DiceBCELoss)
        batch_size, dataset = self.configuration_manager.batch_size, self.plans_manager.dataset_name
        check_shares(batch_size, dist.get_world_size(), type(self).__name__, whole, dataset)
        self._set_batch_size_and_oversample()
        self.loss = self._build_loss()
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        # buffers are made alike here, once: they never change, and later passes must not wait for each other
        self.network = DistributedDataParallel(
            self.network, device_ids=device_ids, find_unused_parameters=self.find_unused_parameters
        )
        self.network.broadcast_buffers = False

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Load as nnU-Net does; the SAM 2 file is not needed, since all weights are in the checkpoint."""
        self.resumed = True
        super().load_checkpoint(filename_or_checkpoint)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: the network has no deep supervision."""

    # ---------------------------------------------------------- optimization

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, CosineSchedule]:
        groups = self.parameter_groups()
        # one fused pass over the parameters, on CPU as well
        optimizer = torch.optim.AdamW(groups, lr=self.initial_lr, weight_decay=self.weight_decay, fused=True)
        # whole epochs, since the rate is set at their start: a part of one would keep its lowest rate for all of it
        return optimizer, CosineSchedule(optimizer, self.num_epochs, round(self.warmup_share * self.num_epochs))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; the trunk in a group of its own where it has its own learning rate."""
        network = getattr(self.network, "_orig_mod", self.network)  # without what compiling wraps around it
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if self.trunk_lr is None:
            return [{"params": list(trained.values())}]
        trunk = [p for name, p in trained.items() if name.startswith(self.trunk_prefix)]
        rest = [p for name, p in trained.items() if not name.startswith(self.trunk_prefix)]
        # the first group's learning rate is what nnU-Net logs
        return [{"params": rest}, {"params": trunk, "lr": self.trunk_lr}]

    def slice_distance(self) -> float:
        """Return the distance between neighbouring slices in SRPP's unit of offsets, by default slices."""
        return 1.0

    def segmentation_loss(self) -> SegmentationLoss:
        """L_seg: the paper's is binary cross entropy."""
        return bce_loss

    def target_maker(self) -> TargetMaker:
        """Return the :class:`TargetMaker` of this dataset."""
        labels = self.label_manager
        regions = labels.foreground_regions if labels.has_regions else []
        return TargetMaker(
            [] if labels.has_regions else labels.foreground_labels,
            labels.ignore_label,
            regions=labels.has_regions,
            num_regions=len(regions),
        )

    def _build_loss(self) -> SAM2_3dMedLoss:
        return SAM2_3dMedLoss(
            self.target_maker(), self.segmentation_loss(), self.srpp_weight, self.boundary_weight, self.slice_distance()
        )

    def train_step(self, batch: dict) -> dict:
        """One step.

        Raises:
            UserError: the GPU's memory is not enough, or the loss is NaN or infinite.
        """
        with out_of_memory_explained(self, lambda: self.architecture_of(self.configuration_manager)):
            try:
                return self._optimize(batch)
            except compiler_errors() as error:
                # torch compiles the backward pass when it comes to it. In a group of processes the others are in the
                # middle of theirs
                if has_given_up() or self.is_ddp:
                    raise
                give_up(error)
            return self._optimize(batch)

    def validation_step(self, batch: dict) -> dict:
        """One step of the validation; if the memory is not enough beside a recorded training step's, without that."""
        with out_of_memory_explained(self, lambda: self.architecture_of(self.configuration_manager)):
            try:
                return super().validation_step(batch)
            except torch.OutOfMemoryError:
                if not self._drop_graph():
                    raise
            self._not_graphed(RuntimeError("the validation needs the memory"))
            return super().validation_step(batch)

    def _optimize(self, batch: dict) -> dict:
        """Forward, backward and the optimizer's step; the losses as numbers."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        if self.graphed_step is None and self.can_be_graphed():
            self.graphed_step = GraphedStep(
                self._gradients, self.network.parameters(), self._not_graphed, lambda: numbers_in(self.loss)
            )
        terms = (self._gradients if self.graphed_step is None else self.graphed_step)(data, target)
        self._descend()
        return self.with_finite_loss(self.numbers_of(terms), batch)

    def can_be_graphed(self) -> bool:
        """Return True if all steps can be replays of a CUDA graph: on one NVIDIA GPU, without activation checkpointing.

        Override it with False where a step does something else in some iterations than in others.
        """
        together = dist.is_available() and dist.is_initialized()  # is_ddp is changed while the network is built
        if self.device.type != "cuda" or torch.version.hip is not None or together:
            return False
        if not self.graphs_wanted or os.environ.get(CUDA_GRAPHS, "1").lower() in ("0", "false", "f"):
            return False
        # computing again what was not kept sets the state of the random numbers, which a graph cannot in all versions
        return not self.architecture_of(self.configuration_manager).get("activation_checkpointing", False)

    def _do_i_compile(self) -> bool:
        """Compile as nnU-Net does, but not unasked where steps are CUDA graphs, which are recorded in seconds."""
        if COMPILE not in os.environ and self.can_be_graphed():
            return False
        return super()._do_i_compile()

    def _not_graphed(self, error: Exception) -> None:
        self.print_to_log_file(
            f"From now on steps are launched operation by operation, not as a CUDA graph: {in_one_line(error)}. If the "
            f"training breaks off, start it with {CUDA_GRAPHS}=0."
        )

    def _drop_graph(self) -> bool:
        """Free the memory of the recorded step and record none again; False if there was none."""
        if self.graphed_step is None:
            return False
        self.graphed_step, self.graphs_wanted = None, False
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return True

    def _gradients(self, data: torch.Tensor, target: torch.Tensor) -> LossTerms:
        """Gradients of a batch, in the parameters' ``grad``; the terms of its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.loss.terms(self.network(data), target)
        self._backward(terms.total)
        return terms

    def _backward(self, total: torch.Tensor) -> None:
        """Gradients of a loss, scaled where float16 needs it."""
        (total if self.grad_scaler is None else self.grad_scaler.scale(total)).backward()

    def _descend(self) -> None:
        """The optimizer's step down the gradients, clipped."""
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        if self.grad_scaler is None:
            self.optimizer.step()
            return
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def numbers_of(self, terms) -> dict:
        """The total and the terms of a loss, as nnU-Net collects them."""
        values = {"loss": terms.total, **{name: getattr(terms, name) for name in self.loss_terms()}}
        # one wait for the device for all
        numbers = torch.stack([value.detach() for value in values.values()]).cpu().numpy()
        return dict(zip(values, numbers, strict=True))

    def on_train_end(self) -> None:
        self._drop_graph()  # the validation needs its memory
        super().on_train_end()

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

    def run_training(self) -> None:
        """Train as nnU-Net does, with early stopping; after it, ``--c`` does not go on."""
        self.on_train_start()
        early_stopping = EarlyStopping(self.patience)
        while self.current_epoch < self.num_epochs:
            reason = early_stopping.reason(self.logger.get_value("mean_fg_dice", step=None))
            if reason is not None:
                self.print_to_log_file(f"Training {reason}")
                self.logger.local_logger.stopped_early = reason
                if self.local_rank == 0:
                    self.logger.plot_progress_png(self.output_folder)
                break
            run_epoch(self)
        self.on_train_end()

    def on_epoch_end(self) -> None:
        terms = {term: self.logger.get_value(LossTermsLogger.key(term), step=-1) for term in self.loss_terms()}
        self.print_to_log_file("train_loss terms", {name: round(value, 4) for name, value in terms.items()})
        super().on_epoch_end()

    # ------------------------------------------------------------------ data

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        return self.as_drawn(*super().get_tr_and_val_datasets())

    def as_drawn(self, train: Any, val: Any) -> tuple[Any, Any]:
        """Return nnU-Net's datasets as they are drawn from: training cases of a merged dataset by the rate of each."""
        repeated = self.sources.repeated(train.identifiers)
        for source in self.sources.merged:
            count = len(set(train.identifiers) & set(source.cases))
            share = count * source.rate / len(repeated)
            self.print_to_log_file(
                f"{share:.1%} of the batches' cases are of {source.dataset}: {count} at rate {source.rate}"
            )
        train.identifiers = repeated
        return train, val

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """Configure in-plane augmentation, and the left-right flip alone in training and at test time."""
        self.inference_allowed_mirroring_axes = (LEFT_RIGHT,)
        patch_size = patch_size_to_load(self.configuration_manager.patch_size)
        return None, True, patch_size, self.inference_allowed_mirroring_axes

    @classmethod
    def affine_transform(cls, in_plane_size) -> BasicTransform:
        """Return the transform that rotates, shears and crops slices to the patch size (H, W)."""
        return InPlaneAffineTransform(in_plane_size, probability=cls.affine_probability)

    # nnU-Net's is static, but is called on the trainer, whose plan says how much the network enlarges slices
    def get_training_transforms(  # type: ignore[override]
        self,
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
        """Return the paper's augmentations; padding stays marked in the target, so that SRPP can leave it out."""
        image_size = self.architecture_of(self.configuration_manager).get("image_size", 512)
        affine = self.affine_transform(patch_size[1:])
        probabilities = (self.mosaic_probability, self.noise_probability, self.blur_probability)
        transforms = paper_transforms(affine, mirror_axes, image_size, *probabilities)
        if use_mask_for_norm is not None and any(use_mask_for_norm):
            masked = [channel for channel, use in enumerate(use_mask_for_norm) if use]
            transforms.append(MaskImageTransform(apply_to_channels=masked, channel_idx_in_seg=0, set_outside_to=0))
        if regions is not None:
            ignored = [] if ignore_label is None else [ignore_label]
            transforms.append(
                ConvertSegmentationToRegionsTransform([*regions, *ignored, PADDING_LABEL], channel_in_seg=0)
            )
        return ComposeTransforms(transforms)
