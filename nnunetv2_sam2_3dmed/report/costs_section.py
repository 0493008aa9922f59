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
    rows, notes = [], []
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
        passes = NOTHING if cost.mirrorings is None else str(cost.mirrorings)
        if cost.mirrorings is None:
            notes.append(f"{method.label}: no checkpoint says whether it mirrors at test time.")
        measured = measurements.get(method.name)
        rows.append(
            [
                Cell(method.label, method=method),
                Cell(f"{cost.parameters / 1e6:.1f}", f"{cost.trained_parameters / 1e6:.1f} trained"),
                Cell(_times(cost.patch_size)),
                Cell(f"{cost.gflop_patch:.1f}"),
                Cell(f"{cost.windows} × {passes}", f"for {_times(cost.median_shape)} voxels"),
                Cell(NOTHING if cost.gflop_volume is None else f"{cost.gflop_volume:.0f}"),
                *_measured(measured),
            ]
        )
    if not rows:
        return CostsSection(None, notes)
    if not measurements:
        notes.append("Time and memory were not measured: the option --measure does so, with nnU-Net's own predictor.")
    for device, case in sorted({(m.device, m.case) for m in measurements.values()}):
        what = "the peak of the whole process" if "CPU threads" in device else "the peak that torch allocated"
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
    return Cell(f"{measured.seconds:.1f}"), Cell(f"{measured.peak_bytes / 2**30:.2f}")


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
