"""Makes the report of a comparison: collects what it shows, draws it, and writes the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json
from nnunetv2_sam2_3dmed.report import measurements
from nnunetv2_sam2_3dmed.report.costs_section import costs_section
from nnunetv2_sam2_3dmed.report.gallery import make_gallery
from nnunetv2_sam2_3dmed.report.measurements import Measurement
from nnunetv2_sam2_3dmed.report.methods import Method, describe_methods
from nnunetv2_sam2_3dmed.report.page import Contents, render, write_page
from nnunetv2_sam2_3dmed.report.pictures import CaseFiles
from nnunetv2_sam2_3dmed.report.scores import choose_cases
from nnunetv2_sam2_3dmed.report.training_curves import read_training_curve


def build_report(
    comparison: Comparison,
    output: Path,
    folds: Sequence[str],
    reference: str | None = None,
    measure: bool = False,
    images: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes ``report.html`` of a comparison.

    Args:
        comparison: of a dataset that is in nnU-Net's folders.
        output: the folder in which it was written.
        folds: nnU-Net's folds, as the user named them.
        reference: the method that others are shown against; default: the first.
        measure: whether to measure time and memory of prediction, where that was not done before.
        images: whether to show overlays and surfaces.
        say: told what is being done.

    Returns:
        The file.

    Raises:
        UserError: a file cannot be read.
    """
    methods = describe_methods(comparison.methods)
    of_reference = next((m for m in methods if m.name == reference), methods[0])
    files = _case_files(comparison)
    median = _median_case(comparison, of_reference)
    say("counting parameters and operations")
    measured = _measurements(methods, median, files, output, measure, say)
    contents = Contents(
        methods=methods,
        reference=of_reference,
        folds=folds,
        used=software_and_machine(),
        curves={m.name: [c for c in map(read_training_curve, m.fold_folders) if c is not None] for m in methods},
        costs=costs_section(methods, measured),
        gallery=make_gallery(comparison, methods, of_reference, files, say) if images else None,
    )
    say("drawing plots")
    return write_page(render(comparison, contents, datetime.now()), output)


def _case_files(comparison: Comparison) -> CaseFiles:
    dataset_json: Mapping[str, Any] = load_dataset_json(comparison.dataset_name)
    raw = os.environ.get("nnUNet_raw")
    example = Path(comparison.truth_folder) / f"{comparison.cases[0]}{dataset_json['file_ending']}"
    reader = determine_reader_writer_from_dataset_json(dict(dataset_json), example_file=str(example), verbose=False)()
    return CaseFiles.of(comparison, dataset_json, reader, Path(raw) / comparison.dataset_name if raw else None)


def _median_case(comparison: Comparison, method: Method) -> str:
    """The median case of a method; with fewer than three cases, its best."""
    chosen = {c.why: c.case for c in choose_cases(comparison, method.name)}
    return chosen.get("median", chosen["best"])


def _measurements(
    methods: Sequence[Method],
    case: str,
    files: CaseFiles,
    output: Path,
    measure: bool,
    say: Callable[[str], None],
) -> dict[str, Measurement]:
    if not measure:
        return measurements.stored(output)
    channels = files.image(case)
    if not channels:
        where = files.raw_folder or "nnUNet_raw, which is not set"
        say(f"nothing is measured: there is no image of {case} in {where}.")
        return measurements.stored(output)
    return measurements.measure_missing(methods, case, channels, output, say)
