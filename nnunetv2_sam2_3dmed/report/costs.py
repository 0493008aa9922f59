"""What a method costs: its parameters, and the operations to predict the dataset's median case."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.report.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

TILE_STEP = 0.5  # nnU-Net's default, of the patch size


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: of the whole network, with the branches that only training uses.
        trained_parameters: those that are not frozen.
        patch_size: of the configuration, in voxels.
        gflop_patch: operations of one forward pass in eval mode on one patch; a multiplication and an addition are two.
        median_shape: of the dataset's median case after resampling, in voxels.
        windows: patches of nnU-Net's sliding window over it.
        mirrorings: forward passes per patch, by test-time mirroring; None if no checkpoint says which axes.
    """

    parameters: int
    trained_parameters: int
    patch_size: tuple[int, ...]
    gflop_patch: float
    median_shape: tuple[int, ...]
    windows: int
    mirrorings: int | None

    @property
    def gflop_volume(self) -> float | None:
        """GFLOP to predict the median case; None if :attr:`mirrorings` is."""
        return None if self.mirrorings is None else self.gflop_patch * self.windows * self.mirrorings


@dataclass(frozen=True)
class Model:
    """A network as the plans of a results folder describe it, without its weights."""

    network: nn.Module
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    trainer: str
    channels: int


def build_model(results_folder: Path) -> Model:
    """Builds the network of TRAINER__PLANS__CONFIG as nnU-Net does before it predicts.

    Raises:
        UserError: the trainer is not known here, or a file is missing or does not fit.
    """
    trainer, _, configuration_name = results_folder.name.split("__")
    try:
        plans = PlansManager(load_json(str(results_folder / "plans.json")))
        dataset_json = load_json(str(results_folder / "dataset.json"))
        configuration = plans.get_configuration(configuration_name)
        with redirect_stdout(io.StringIO()):  # lists every module that it looks into
            trainer_class = recursive_find_trainer_class_by_name(trainer)
        channels = determine_num_input_channels(plans, configuration, dataset_json)
        heads = plans.get_label_manager(dataset_json).num_segmentation_heads
        network = trainer_class.build_network_architecture(
            plans, configuration, channels, heads, enable_deep_supervision=False
        )
    except Exception as error:  # whatever a stranger's trainer raises, the rest of the report holds
        raise UserError(
            f"the network of {results_folder.name} cannot be built ({type(error).__name__}: {str(error)[:200]}): "
            'expected plans.json, dataset.json and an installed trainer; run eval "$(sam2_3dmed env)" for ours.'
        ) from error
    return Model(network.eval(), plans, configuration, dataset_json, trainer, channels)


def cost_of(results_folder: Path, checkpoint: Path | None) -> Cost:
    """The cost of the model in a results folder of nnU-Net.

    Args:
        results_folder: TRAINER__PLANS__CONFIG, with ``plans.json`` and ``dataset.json``.
        checkpoint: of one of its folds; says how it mirrors at test time.

    Raises:
        UserError: see :func:`build_model`; or the network cannot run on a patch.
    """
    model = build_model(results_folder)
    patch = tuple(int(n) for n in model.configuration.patch_size)
    parameters = list(model.network.parameters())
    shape = median_shape(model.plans, model.configuration)
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        patch_size=patch,
        gflop_patch=count_flop(model.network, (1, model.channels, *patch)) / 1e9,
        median_shape=shape,
        windows=count_windows(shape, patch),
        mirrorings=None if checkpoint is None else count_mirrorings(checkpoint),
    )


def count_flop(network: nn.Module, shape: Sequence[int]) -> int:
    """Operations of one forward pass: matrix products, convolutions and attention, as torch counts them.

    Nothing is computed: the tensors are fake, so that the largest network needs neither time nor memory.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(*shape))
    return int(counter.get_total_flops())


def median_shape(plans: PlansManager, configuration: ConfigurationManager) -> tuple[int, ...]:
    """The dataset's median case after resampling, (D, H, W); 2D configurations take every slice of it."""
    in_plane = [round(n) for n in configuration.median_image_size_in_voxels]
    if len(in_plane) == 3:
        return tuple(in_plane)
    return (round(plans.original_median_shape_after_transp[0]), *in_plane)


def count_windows(image_shape: Sequence[int], patch_size: Sequence[int], step: float = TILE_STEP) -> int:
    """How many patches nnU-Net's sliding window takes from an image; a 2D patch slides over each slice."""
    slices, shape = 1, tuple(image_shape)
    if len(patch_size) < len(shape):
        slices, shape = shape[0], shape[1:]
    padded = tuple(max(n, p) for n, p in zip(shape, patch_size, strict=True))  # as nnU-Net pads small images
    steps = compute_steps_for_sliding_window(padded, tuple(patch_size), step)
    windows = slices
    for along_axis in steps:
        windows *= len(along_axis)
    return windows


def count_mirrorings(checkpoint: Path) -> int:
    """Forward passes per patch: one for each combination of the axes that a checkpoint lets nnU-Net mirror."""
    return 2 ** len(load_checkpoint(checkpoint).get("inference_allowed_mirroring_axes") or ())
