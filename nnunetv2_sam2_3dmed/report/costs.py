"""Costs of a method: its parameters, and the operations to predict the dataset's median case."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.tables import NOTHING, Cell, Table
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.report.methods import ReportMethod
from nnunetv2_sam2_3dmed.report.operations import count_operations

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

TILE_STEP = 0.5  # nnU-Net's default, of the patch size


Counted = TypeVar("Counted")


@dataclass(frozen=True)
class Cost:
    """Costs of a network; None where something could not be counted.

    Attributes:
        parameters: of the whole network, with the branches that only training uses.
        trained_parameters: those that are not frozen.
        patch_size: of the configuration, in voxels.
        gflop_patch: operations of one forward pass in eval mode on one patch; a multiplication and an addition are two.
        gflop_volume: operations to predict the median case.
        remembers_slices: true if a slice in several windows is encoded once.
        median_shape: of the dataset's median case after resampling, in voxels.
        windows: patches of nnU-Net's sliding window over it.
        mirrorings: forward passes per patch, by test-time mirroring; None also if there is no checkpoint to say which.
        failures: a sentence for each thing that could not be counted.
    """

    parameters: int | None
    trained_parameters: int | None
    patch_size: tuple[int, ...]
    gflop_patch: float | None
    gflop_volume: float | None
    remembers_slices: bool
    median_shape: tuple[int, ...] | None
    windows: int | None
    mirrorings: int | None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A network as the plans of a results folder describe it, without its weights."""

    network: nn.Module
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    trainer: str
    channels: int
    patch_size: tuple[int, ...]


def build_model(results_folder: Path) -> Model:
    """Build the network of TRAINER__PLANS__CONFIG as nnU-Net does before it predicts.

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
        ).eval()
        patch_size = tuple(int(n) for n in configuration.patch_size)
    except Exception as error:  # whatever a stranger's trainer raises, the rest of the report holds
        raise UserError(
            f"the network of {results_folder.name} cannot be built ({type(error).__name__}: {str(error)[:200]}): "
            'expected plans.json, dataset.json and an installed trainer; run eval "$(sam2_3dmed env)" for ours.'
        ) from error
    return Model(network, plans, configuration, dataset_json, trainer, channels, patch_size)


def cost_of(results_folder: Path, checkpoint: Path | None) -> Cost:
    """The cost of the model in a results folder of nnU-Net.

    Args:
        results_folder: TRAINER__PLANS__CONFIG, with ``plans.json`` and ``dataset.json``.
        checkpoint: of one of its folds; says how it mirrors at test time.

    Raises:
        UserError: see :func:`build_model`.
    """
    model = build_model(results_folder)
    patch, failures = model.patch_size, []

    def attempt(what: str, count: Callable[[], Counted]) -> Counted | None:
        try:
            return count()
        except Exception as error:  # whatever a stranger's network or plans raise, the rest of the report holds
            reason = " ".join(str(error).split())[:200]
            failures.append(f"{what} could not be counted ({type(error).__name__}: {reason}).")
            return None

    parameters = attempt("its parameters", lambda: _count_parameters(model.network))
    operations = attempt("its operations", lambda: count_operations(model.network, (1, model.channels, *patch)))
    shape = attempt("the voxels of the median case", lambda: median_shape(model.plans, model.configuration))
    windows = attempt("the windows of the median case", lambda: count_windows(shape, patch)) if shape else None
    axes = attempt("its mirrorings", lambda: mirrored_axes(checkpoint)) if checkpoint else None
    flop_volume = None
    if operations and shape and windows and axes is not None:
        flop_volume = operations.of_volume(windows, 2 ** len(axes), count_encoded_slices(shape, patch, axes))
    return Cost(
        parameters=parameters[0] if parameters else None,
        trained_parameters=parameters[1] if parameters else None,
        patch_size=patch,
        gflop_patch=operations.patch / 1e9 if operations else None,
        gflop_volume=None if flop_volume is None else flop_volume / 1e9,
        remembers_slices=operations is not None and operations.encoding is not None,
        median_shape=shape,
        windows=windows,
        mirrorings=None if axes is None else 2 ** len(axes),
        failures=tuple(failures),
    )


def _count_parameters(network: nn.Module) -> tuple[int, int]:
    """Parameters of the whole network, and those that are not frozen."""
    counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)


def median_shape(plans: PlansManager, configuration: ConfigurationManager) -> tuple[int, ...]:
    """The dataset's median case after resampling, (D, H, W); 2D configurations take every slice of it."""
    in_plane = [round(n) for n in configuration.median_image_size_in_voxels]
    if len(in_plane) == 3:
        return tuple(in_plane)
    return (round(plans.original_median_shape_after_transp[0]), *in_plane)


def count_windows(image_shape: Sequence[int], patch_size: Sequence[int], step: float = TILE_STEP) -> int:
    """Number of patches that nnU-Net's sliding window takes from an image; a 2D patch slides over each slice."""
    slices, shape = 1, tuple(image_shape)
    if len(patch_size) < len(shape):
        slices, shape = shape[0], shape[1:]
    padded = tuple(max(n, p) for n, p in zip(shape, patch_size, strict=True))  # as nnU-Net pads small images
    steps = compute_steps_for_sliding_window(padded, tuple(patch_size), step)
    windows = slices
    for along_axis in steps:
        windows *= len(along_axis)
    return windows


def count_encoded_slices(image_shape: Sequence[int], patch_size: Sequence[int], mirrored: Sequence[int]) -> int:
    """Number of different slices in the windows over an image: one per slice, place and mirrored copy in plane.

    Windows that follow each other along the slice axis, and those mirrored along it, hold the same slices. The padding
    of an image with fewer slices than the patch is counted as slices too.
    """
    if len(patch_size) < len(image_shape):
        return count_windows(image_shape, patch_size) * 2 ** len(mirrored)
    in_plane = count_windows((patch_size[0], *image_shape[1:]), patch_size)
    return max(image_shape[0], patch_size[0]) * in_plane * 2 ** len(set(mirrored) - {0})


def mirrored_axes(checkpoint: Path) -> tuple[int, ...]:
    """The patch's axes along which a checkpoint lets nnU-Net mirror: a forward pass for each combination of them."""
    return tuple(int(axis) for axis in load_checkpoint(checkpoint).get("inference_allowed_mirroring_axes") or ())


@dataclass(frozen=True)
class Measurement:
    """Time and memory of predicting one case.

    Attributes:
        case: the case.
        checkpoint: the file that was used.
        modified: when that file was last written, in seconds since 1970: another checkpoint is measured anew.
        seconds: from the image in memory to the segmentation, preprocessing and resampling included.
        peak_bytes: of GPU memory, or of the process's memory on a CPU.
        device: in words.
    """

    case: str
    checkpoint: str
    modified: float
    seconds: float
    peak_bytes: int
    device: str


@dataclass(frozen=True)
class CostsSection:
    """The table, None if no method has a network here, and notes on it."""

    table: Table | None
    notes: Sequence[str]


def costs_section(methods: Sequence[ReportMethod], measurements: Mapping[str, Measurement]) -> CostsSection:
    """Count the costs of each method with a results folder, and put the measurements beside them."""
    measurements = {m.name: measurements[m.name] for m in methods if m.name in measurements}
    rows, notes, remembering = [], [], []
    for method in methods:
        if method.results_folder is None:
            notes.append(f"{method.label}: only its predictions were given, not its network.")
            continue
        try:
            cost = cost_of(method.results_folder, method.checkpoint)
        except UserError as error:
            notes.append(f"{method.label}: {error}")
            continue
        notes += [f"{method.label}: {failure}" for failure in cost.failures]
        if method.checkpoint is None:
            notes.append(f"{method.label}: no checkpoint says whether it mirrors at test time.")
        remembering += [method.label] if cost.remembers_slices else []
        rows.append(
            [
                Cell(method.name, is_method=True),
                Cell(_millions(cost.parameters), detail=f"{_millions(cost.trained_parameters)} trained"),
                Cell(_times(cost.patch_size)),
                Cell(NOTHING if cost.gflop_patch is None else f"{cost.gflop_patch:.1f}"),
                Cell(
                    f"{_or_nothing(cost.windows)} × {_or_nothing(cost.mirrorings)}",
                    detail="" if cost.median_shape is None else f"for {_times(cost.median_shape)} voxels",
                ),
                Cell(NOTHING if cost.gflop_volume is None else f"{cost.gflop_volume:.0f}"),
                *_measured(measurements.get(method.name)),
            ]
        )
    if not rows:
        return CostsSection(None, notes)
    if remembering:
        notes.append(
            f"{', '.join(remembering)}: GFLOP per volume count the encoding of each slice once for all windows that "
            "hold it in the same place and with the same mirroring in the plane, because the network keeps its "
            "features (as long as they fit in its memory for them); the rest counts once per window and mirroring."
        )
    if not measurements:
        notes.append("Time and memory were not measured: the option --measure does so, with `sam2_3dmed predict`.")
    for device, case in sorted({(m.device, m.case) for m in measurements.values()}):
        what = (
            "the peak of the whole process"
            if "CPU threads" in device
            else "the peak that torch allocated with one window at a time, as nnUNetv2_predict has it"
        )
        notes.append(
            f"Time and memory: {case} on {device}, once, preprocessing and resampling included; memory is {what}. "
            "Other work on the machine makes it slower."
        )
    header = ["method", "parameters (million)", "patch (voxels)", "GFLOP per patch", "windows × mirrorings"]
    header += ["GFLOP per volume", "seconds per volume", "peak memory (GiB)"]
    return CostsSection(Table("Costs of prediction", header, rows), notes)


def _measured(measured: Measurement | None) -> tuple[Cell, Cell]:
    if measured is None:
        return Cell(NOTHING), Cell(NOTHING)
    return Cell(f"{measured.seconds:.1f}", detail=f"on {measured.device}"), Cell(f"{measured.peak_bytes / 2**30:.2f}")


def _millions(parameters: int | None) -> str:
    return NOTHING if parameters is None else f"{parameters / 1e6:.1f}"


def _or_nothing(count: int | None) -> str:
    return NOTHING if count is None else str(count)


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
