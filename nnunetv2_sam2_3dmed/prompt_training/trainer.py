"""SAM2_PromptTrainer: a promptable model, trained within nnU-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os.path import join
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import AXES_OF_PATIENT, View, view_along
from nnunetv2_sam2_3dmed.interactive.intensities import learned_normals, shown_as
from nnunetv2_sam2_3dmed.interactive.model import fill
from nnunetv2_sam2_3dmed.interactive.trained_model import NETWORK_ARGUMENTS, PROMPTED
from nnunetv2_sam2_3dmed.network.checkpoints import identify_backbone, read_checkpoint, sha256_of
from nnunetv2_sam2_3dmed.network.promptable_sam2 import Answer, PromptableSAM2, build_promptable_sam2, copy_to
from nnunetv2_sam2_3dmed.network.resizing import logits_at
from nnunetv2_sam2_3dmed.nnunet.stored_direction import direction_of
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import (
    GIVEN_WEIGHTS,
    TRAINED_ON,
    UNKNOWN_START,
    is_official,
    with_cases,
)
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase, check_headers, raw_cases
from nnunetv2_sam2_3dmed.prompt_training.framing import FramedAffineTransform
from nnunetv2_sam2_3dmed.prompt_training.jitter import ColourJitter
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.shown_cases import ShownCases
from nnunetv2_sam2_3dmed.prompt_training.stacks import (
    PromptMix,
    StackMaker,
    Stacks,
    TrainingPrompts,
    objects_to_train,
    objects_to_validate,
)
from nnunetv2_sam2_3dmed.prompt_training.validation import validate_with_boxes
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

MOST_EMPTY_BATCHES = 100


class SAM2_PromptTrainer(SAM2_3dMedTrainer):
    """SAM 2 with its prompt encoder, after MedSAM2's training protocol.

    From MedSAM2 (arXiv 2504.03600, "Training protocol"): SAM 2.1 tiny (the plan's default), fully trained, the
    image encoder at 3e-5 and the rest at 5e-5; AdamW with weight decay 0.01; stacks of 8 consecutive slices; focal and
    Dice loss 20 to 1; boxes perturbed by 0 to 10 pixels; horizontal flip, affine transformation and colour jitter; 70
    epochs. An epoch is nnU-Net's 250 batches, so that 70 are 17,500 batches whatever the dataset; MedSAM2 does not say
    what an epoch is.

    Different from MedSAM2 are the batch and the size of images, which are the plan's: 4 stacks over all GPUs (MedSAM2:
    8 per GPU, 12 GPUs; :class:`SAM2_PromptTrainer_batch8` has eight per GPU), and 128 to 512 pixels after the patch
    (MedSAM2: 512); ``sam2_3dmed plan --batch-size`` and ``--image-size``.

    Cases that are videos (``sam2_3dmed videos``) are drawn as clips of whole frames at their frame rate, half and a
    quarter of it, as MedSAM2's, see :mod:`~nnunetv2_sam2_3dmed.prompt_training.shown_cases`; they are prompted on the
    first frame with the object, and propagated forward.

    Not stated by MedSAM2, and our choice: the direction in which edges of boxes move (either, as in SAM 2), the
    strength of the colour jitter (SAM 2's, which leaves the hue alone; on grey images, saturation and greyscale
    conversion change nothing), the cosine schedule and early stopping (those of
    :class:`SAM2_3dMedTrainer`), the strength of the affine transformation (the same, and a zoom of 0.9 to 1.4), clicks
    and masks beside boxes, up to three objects per stack, each prompted on one slice and propagated in both directions.
    The losses of the predicted IoU and of the presence, and clicks on errors, are those of SAM 2; clicks after the
    propagation are those of :class:`SAM2_PromptTrainer_corrected`.

    The checkpoints serve ``sam2_3dmed segment`` and ``InteractiveSession``. The pseudo Dice and the final validation
    use ground truth boxes: they do not measure segmentation without prompts.
    """

    network: Any
    loss: Any

    required_slices = 8
    peak_lr = 5e-5
    trunk_lr: float | None = 3e-5
    trunk_prefix = "image_encoder."
    find_unused_parameters = True  # each kind of prompt has its own embeddings
    mosaic_probability = 0.0  # with four copies of an object, prompts would be ambiguous
    noise_probability = blur_probability = 0.0  # MedSAM2 has neither
    jitter: ClassVar[ColourJitter] = ColourJitter()
    mix: ClassVar[PromptMix] = PromptMix()
    slice_steps: ClassVar[Sequence[int]] = (1,)  # between the slices of a stack of a volume, drawn for each stack
    images_first: ClassVar[float] = 0.0  # share of the training, from its start, with single slices
    max_epochs: ClassVar[int] = 70  # MedSAM2's

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.weight_decay = 0.01  # MedSAM2's
        self.num_epochs = self.max_epochs
        self.oversample_foreground_percent = 1.0  # a stack without an object cannot be prompted
        architecture = self.architecture_of(self.configuration_manager)
        self.shown_as = shown_as(
            self.plans_manager,
            self.configuration_manager,
            architecture.get("intensity_range", (-3.0, 3.0)),
            determine_num_input_channels(self.plans_manager, self.configuration_manager, dataset_json),
            self.sources.videos or self.sources.pictures,
        )
        # stored beside the weights, for sessions
        self._described = {"network": _network_arguments(architecture), "shown_as": self.shown_as.for_checkpoint()}
        self.my_init_kwargs[PROMPTED] = self._described
        self._mix = self.mix_at(0.0)
        self._directions: dict[str, np.ndarray] = {}

    # ---------------------------------------------------------------- network

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> PromptableSAM2:
        """Build the whole of SAM 2. The model is class-agnostic: it segments whatever the prompt marks."""
        return build_promptable_sam2(**_network_arguments(cls.architecture_of(configuration_manager)))

    def initialize(self) -> None:
        super().initialize()
        if self.grad_scaler is not None:  # what the network adds to gradients is scaled as they are
            self._own_network.scale_gradient = self.grad_scaler.scale
        own = self._own_network
        own.weights_given = False
        own.register_load_state_dict_post_hook(_note_given_weights)

    @property
    def _own_network(self) -> PromptableSAM2:
        """The network without what training on several GPUs wraps around it."""
        return getattr(self.network, "module", self.network)

    def loss_terms(self) -> list[str]:
        return ["pixels", "dice", "iou", "presence"]

    def _build_loss(self) -> PromptLoss:  # type: ignore[override]
        return PromptLoss()

    def _load_pretrained(self, checkpoint: Path) -> None:
        weights = read_checkpoint(checkpoint)
        fill(self.network, weights, checkpoint)
        self.my_init_kwargs[UNKNOWN_START] = not is_official(sha256_of(checkpoint))
        self.print_to_log_file(f"all weights from {checkpoint.name} ({identify_backbone(weights)})")

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self._own_network.weights_given = False
        # nnU-Net restores the checkpoint's values; training goes on with those of the plan, which may have changed
        self.my_init_kwargs[PROMPTED] = self._described
        if TRAINED_ON not in self.my_init_kwargs:  # of an older version, which did not note what it started from
            self.my_init_kwargs[UNKNOWN_START] = self.pretrained

    # ------------------------------------------------------------------ data

    @cached_property
    def rng(self) -> np.random.Generator:
        """Generator of prompts and jitter, made at its first use: a continued training was seeded anew by then."""
        return np.random.default_rng(int(torch.randint(2**31, (1,))))

    @cached_property
    def stack_maker(self) -> StackMaker:
        """Converter of nnU-Net's batches."""
        return StackMaker(self.target_maker(), self.shown_as, self.plans_manager.transpose_forward)

    @classmethod
    def affine_transform(cls, in_plane_size) -> BasicTransform:
        return FramedAffineTransform(in_plane_size, cls.affine_probability)

    @classmethod
    def get_validation_transforms(
        cls, deep_supervision_scales, is_cascaded=False, foreground_labels=None, regions=None, ignore_label=None
    ) -> BasicTransform:
        """Return the framing alone; padding stays marked."""
        transforms: list[BasicTransform] = [
            Convert3DTo2DTransform(),
            FramedAffineTransform(None, probability=0),
            Convert2DTo3DTransform(),
        ]
        if regions is not None:
            ignored = [] if ignore_label is None else [ignore_label]
            transforms.append(
                ConvertSegmentationToRegionsTransform([*regions, *ignored, PADDING_LABEL], channel_in_seg=0)
            )
        return ComposeTransforms(transforms)

    def as_drawn(self, train: Any, val: Any) -> tuple[Any, Any]:
        train, val = super().as_drawn(train, val)
        settings = (self.sources.is_video, self.configuration_manager.patch_size, self.shown_as.low)
        return ShownCases(train, *settings, slice_steps=self.slice_steps), ShownCases(val, *settings, rates=(1,))

    def _stacks(self, batch: dict) -> Stacks:
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        cases = [str(key) for key in batch["keys"]]
        videos = frozenset(place for place, case in enumerate(cases) if self.sources.is_video(case))
        return self.stack_maker(data, target, [self._view(case) for case in cases], videos)

    def _view(self, case: str) -> View:
        """Orientation in which the slices of a case are prompted."""
        return view_along(self._direction(case), self.shown_as.axis)

    def _direction(self, case: str) -> np.ndarray:
        """Direction of a case as stored by nnU-Net's reader, which may have reoriented it."""
        if case not in self._directions:
            properties = load_pickle(join(self.preprocessed_dataset_folder, f"{case}.pkl"))
            self._directions[case] = direction_of(properties)
        return self._directions[case]

    def on_train_start(self) -> None:
        """Start as nnU-Net does; checkpoints name the training cases, of this training and of those before it."""
        super().on_train_start()
        if self._own_network.weights_given:
            self.my_init_kwargs[GIVEN_WEIGHTS] = True
        train, _ = self.do_split()
        before = self.my_init_kwargs.get(TRAINED_ON, {})
        self.my_init_kwargs[TRAINED_ON] = with_cases(before, self.plans_manager.dataset_name, train, self.sources)

    def check_data(self, train: Sequence[str], val: Sequence[str]) -> None:
        super().check_data(train, val)
        # fail before the training rather than in the final validation
        for warning in check_headers(self._validation_cases(val)):
            self.print_to_log_file(warning)
        self._note_normals(train)

    def _note_normals(self, train: Sequence[str]) -> None:
        """Store the patient axes along which the slices of the training cases lie in the checkpoints.

        Videos have none.
        """
        train = [case for case in train if not self.sources.is_video(case)]
        if not train:
            return
        normals = learned_normals((self._direction(case) for case in train), self.shown_as.axis)
        self.shown_as = replace(self.shown_as, normals=normals)
        self._described["shown_as"] = self.shown_as.for_checkpoint()
        named = " and ".join(AXES_OF_PATIENT[normal] for normal in normals)
        self.print_to_log_file(f"Slices of the training cases lie along the patient's axis {named}.")

    def _validation_cases(self, names: Sequence[str]) -> list[RawCase]:
        """Return the raw images and labels of these cases.

        Raises:
            UserError: nnUNet_raw is not set, or a file is missing.
        """
        if not nnUNet_raw.is_set():
            raise UserError("nnUNet_raw is not set, but the validation prompts the raw images: set it.")
        folder = Path(str(nnUNet_raw)) / self.plans_manager.dataset_name
        return raw_cases(folder, self.dataset_json, sorted(names))

    # ---------------------------------------------------------- optimization

    def share_done(self) -> float:
        """Return the completed share of the training, 0 to 1."""
        return self.current_epoch / self.num_epochs

    @classmethod
    def mix_at(cls, share: float) -> PromptMix:
        """Return the probabilities of prompts after this share of the training."""
        return cls.mix._replace(images=1.0) if share < cls.images_first else cls.mix

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._mix = self.mix_at(self.share_done())

    def can_be_graphed(self) -> bool:
        """Return False: the number of objects differs between batches."""
        return False

    def _do_i_compile(self) -> bool:
        """Return False: SAM 2's steps take dictionaries, whose entries differ between objects."""
        return False

    def _optimize(self, batch: dict) -> dict:
        objects, batch = self._with_objects(batch, self.dataloader_train, self._drawn)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.loss(self.network(objects.prompts), objects)
        self._backward(terms.total)
        self._descend()
        return self.with_finite_loss(self.numbers_of(terms), batch)

    def _drawn(self, stacks: Stacks) -> TrainingPrompts | None:
        stacks = stacks._replace(grey=self.jitter(stacks.grey, self.rng))
        return objects_to_train(stacks, self._image_size, self._mix, self.rng)

    def validation_step(self, batch: dict) -> dict:
        """Compute the loss and pseudo Dice of all objects, each with the ground truth box on its middle slice."""
        labels = self.label_manager
        count = len(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
        objects, batch = self._with_objects(
            batch, self.dataloader_val, lambda s: objects_to_validate(s, self._image_size, self.rng)
        )
        answers = self.network(objects.prompts)
        hits = zip(("tp_hard", "fp_hard", "fn_hard"), hits_of(answers, objects, count), strict=True)
        outputs = {"loss": self.loss(answers, objects).total.cpu().numpy(), **dict(hits)}
        return self.with_finite_loss(outputs, batch, training=False)

    def _with_objects(
        self, batch: dict, more: Iterator[dict], choose: Callable[[Stacks], TrainingPrompts | None]
    ) -> tuple[TrainingPrompts, dict]:
        """Return objects of a batch or of the next one with any, and that batch; a patch can be without objects.

        Raises:
            UserError: many batches have no object.
        """
        for _ in range(MOST_EMPTY_BATCHES):
            objects = choose(self._stacks(batch))
            if objects is not None:
                return objects, batch
            batch = next(more)
        raise UserError(
            f"{MOST_EMPTY_BATCHES} batches of {self.plans_manager.dataset_name} showed no object to prompt: check "
            f"that the labels of fold {self.fold} hold foreground."
        )

    @property
    def _image_size(self) -> int:
        return int(self._described["network"]["image_size"])

    # ------------------------------------------------------------- validation

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Segment the fold's validation cases from the ground truth box on the middle slice of each object.

        The folder ``validation`` and its ``summary.json`` are like nnU-Net's, so that ``sam2_3dmed compare`` reads
        them, but the boxes tell the model where the objects are.
        """
        if save_probabilities:
            self.print_to_log_file("There are no probabilities to save (--npz): masks come from prompts.")
        train, val = self.do_split()
        self._note_normals(train)  # with --val, nothing was trained before
        validate_with_boxes(self, self.shown_as, self._validation_cases(val), self.sources.is_video)


def _network_arguments(architecture: dict[str, Any]) -> dict[str, Any]:
    """Select the plan's arguments that SAM 2 takes; the others are for segmentation without prompts."""
    return {name: architecture[name] for name in NETWORK_ARGUMENTS if name in architecture}


def hits_of(answers: Sequence[Answer], objects: TrainingPrompts, count: int) -> np.ndarray:
    """Count true positive, false positive and false negative voxels of ``count`` classes: (3, count)."""
    prompts = objects.prompts
    classes = copy_to(np.array(objects.classes), prompts.gt.device)
    totals = torch.zeros(3, count, dtype=torch.int64, device=prompts.gt.device)
    for answer in answers:
        gt = prompts.gt[answer.objects, answer.slices]
        counted = prompts.counted[answer.objects, answer.slices]
        height, width = gt.shape[-2:]
        found = (logits_at(answer.logits, (height, width))[:, 0] > 0) & counted
        sums = torch.stack([found & gt, found & ~gt, gt & ~found]).flatten(2).sum(dim=2)
        totals.index_add_(1, classes[answer.objects], sums)
    return totals.cpu().numpy()


def _note_given_weights(network: PromptableSAM2, _: object) -> None:
    """Note that weights were loaded which the trainer does not know, as by ``nnUNetv2_train -pretrained_weights``."""
    network.weights_given = True
