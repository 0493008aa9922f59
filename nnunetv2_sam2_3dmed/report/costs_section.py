"""The report's table of costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.report.measurements import Measurement
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.tables import NOTHING, Cell, Table


@dataclass(frozen=True)
class CostsSection:
    """The table, None if no method has a network here, and what is to be said about it."""

    table: Table | None
    notes: Sequence[str]


def costs_section(methods: Sequence[Method], measurements: Mapping[str, Measurement]) -> CostsSection:
    """Counts what each method with a results folder costs, and puts the measurements beside it."""
    measurements = {m.name: measurements[m.name] for m in methods if m.name in measurements}
    rows, notes, remembering = [], [], []
    for method in methods:
        if method.results_folder is None:
            notes.append(f"{method.label}: only its predictions were given, not its network.")
            continue
        from nnunetv2_sam2_3dmed.report.costs import cost_of  # imports nnU-Net

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
                Cell(method.label, method=method),
                Cell(_millions(cost.parameters), f"{_millions(cost.trained_parameters)} trained"),
                Cell(_times(cost.patch_size)),
                Cell(NOTHING if cost.gflop_patch is None else f"{cost.gflop_patch:.1f}"),
                Cell(f"{_or_nothing(cost.windows)} × {_or_nothing(cost.mirrorings)}", _of_voxels(cost.median_shape)),
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
    return Cell(f"{measured.seconds:.1f}", f"on {measured.device}"), Cell(f"{measured.peak_bytes / 2**30:.2f}")


def _millions(parameters: int | None) -> str:
    return NOTHING if parameters is None else f"{parameters / 1e6:.1f}"


def _or_nothing(count: int | None) -> str:
    return NOTHING if count is None else str(count)


def _of_voxels(shape: Sequence[int] | None) -> str:
    return "" if shape is None else f"for {_times(shape)} voxels"


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
