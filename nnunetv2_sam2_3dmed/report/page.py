"""The report of a comparison: collects its contents, draws them, and writes one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.comparison_files import case_table, coverage, further_tables, results_table
from nnunetv2_sam2_3dmed.evaluation.scores import METRICS
from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_html
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json
from nnunetv2_sam2_3dmed.report import measure as measuring
from nnunetv2_sam2_3dmed.report.costs import CostsSection, Measurement, costs_section
from nnunetv2_sam2_3dmed.report.gallery import ComparedFiles, Gallery, choose_cases, make_gallery
from nnunetv2_sam2_3dmed.report.methods import ReportMethod, describe_methods
from nnunetv2_sam2_3dmed.report.papers import published_tables
from nnunetv2_sam2_3dmed.report.plots import box_plot, curve_plots, scatter_plot, waterfall_plot
from nnunetv2_sam2_3dmed.report.surfaces import MAX_VOXELS
from nnunetv2_sam2_3dmed.report.training_curves import TrainingCurve, read_training_curve
from nnunetv2_sam2_3dmed.report.wording import caveats, facts, summary_sentences

FILE = "report.html"


@dataclass(frozen=True)
class MetricPlots:
    """The plots of one metric: the box plot, and a scatter and a waterfall plot per method against the reference."""

    title: str
    box: Markup
    against_reference: Sequence[Markup]


@dataclass(frozen=True)
class Contents:
    """Contents of the report beside the comparison.

    Attributes:
        methods: of the comparison, in its order.
        reference: the one that the others are compared with.
        folds: as the user named them.
        used: versions and machine.
        curves: of each method's trainings, by its name.
        costs: the table of costs.
        gallery: overlays and surfaces; None if they were not wanted.
    """

    methods: Sequence[ReportMethod]
    reference: ReportMethod
    folds: Sequence[str]
    used: Mapping[str, Any]
    curves: Mapping[str, Sequence[TrainingCurve]]
    costs: CostsSection
    gallery: Gallery | None


def build_report(
    comparison: Comparison,
    output: Path,
    folds: Sequence[str],
    reference: str | None = None,
    measure: bool = False,
    images: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Write ``report.html`` of a comparison.

    Args:
        comparison: of a dataset that is in nnU-Net's folders.
        output: the folder in which it was written.
        folds: nnU-Net's folds, as the user named them.
        reference: the method that others are shown against; default: the first.
        measure: measure time and memory of prediction, where that was not done before.
        images: show overlays and surfaces.
        say: called with a sentence on each step.

    Returns:
        The file.

    Raises:
        UserError: a file cannot be read.
    """
    methods = describe_methods(comparison.methods)
    of_reference = next((m for m in methods if m.name == reference), methods[0])
    files = _compared_files(comparison)
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
    write_text(output / FILE, render(comparison, contents, datetime.now()))
    return output / FILE


def _compared_files(comparison: Comparison) -> ComparedFiles:
    dataset_json: Mapping[str, Any] = load_dataset_json(comparison.dataset_name)
    raw = os.environ.get("nnUNet_raw")
    example = Path(comparison.gt_folder) / f"{comparison.cases[0]}{dataset_json['file_ending']}"
    reader = determine_reader_writer_from_dataset_json(dict(dataset_json), example_file=str(example), verbose=False)()
    return ComparedFiles.of(comparison, dataset_json, reader, Path(raw) / comparison.dataset_name if raw else None)


def _median_case(comparison: Comparison, method: ReportMethod) -> str:
    """The median case of a method; with fewer than three cases, its best."""
    chosen = {c.why: c.case for c in choose_cases(comparison, method.name)}
    return chosen.get("median", chosen["best"])


def _measurements(
    methods: Sequence[ReportMethod],
    case: str,
    files: ComparedFiles,
    output: Path,
    measure: bool,
    say: Callable[[str], None],
) -> dict[str, Measurement]:
    if not measure:
        return measuring.stored(output)
    channels = files.image(case)
    if not channels:
        where = files.raw_folder or "nnUNet_raw, which is not set"
        say(f"nothing is measured: there is no image of {case} in {where}.")
        return measuring.stored(output)
    return measuring.measure_missing(methods, case, channels, output, say)


def render(comparison: Comparison, contents: Contents, now: datetime) -> str:
    """The report as HTML, without references to other files."""
    environment = Environment(
        loader=PackageLoader("nnunetv2_sam2_3dmed", "report/templates"),
        autoescape=True,  # names of cases, classes and methods are the user's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # the style sheet is our own text, and is not to be escaped
    style, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    methods = contents.methods
    by_name = {method.name: method for method in methods}

    def name_of(method: ReportMethod) -> Markup:
        return Markup(
            '<span class="method"><span class="symbol" style="color: {}" aria-hidden="true">{}</span>&nbsp;{}</span>'
        ).format(method.colour, method.symbol, method.label)

    def show(table: Table) -> Markup:
        return as_html(table, lambda name: name_of(by_name[name]))

    names = comparison.class_names
    return environment.get_template("report.html").render(
        comparison=comparison,
        coverage=coverage(comparison),
        facts=facts(comparison, methods, contents.folds, contents.used, now),
        summary=summary_sentences(comparison, methods),
        caveats=caveats(comparison),
        contents=contents,
        methods=methods,
        reference=contents.reference,
        name_of=name_of,
        show=show,
        results=[results_table(comparison, name) for name in (names[-1], *names[:-1])],
        further=further_tables(comparison),
        cases=case_table(comparison),
        plots=metric_plots(comparison, methods, contents.reference),
        curves=curve_plots(methods, contents.curves),
        without_curves=[method.label for method in methods if not contents.curves.get(method.name)],
        papers=published_tables(comparison.dataset_name),
        max_voxels=f"{MAX_VOXELS:,}",
        style=Markup(style),
    )


def metric_plots(comparison: Comparison, methods: Sequence[ReportMethod], reference: ReportMethod) -> list[MetricPlots]:
    """The plots of every metric."""
    plots = []
    for metric in METRICS:
        pairs = []
        for index, method in enumerate(methods):
            if method.name != reference.name:
                name = f"{metric.attribute}-{index}"
                pairs.append(scatter_plot(comparison, method, reference, metric, f"scatter-{name}"))
                pairs.append(waterfall_plot(comparison, method, reference, metric, f"waterfall-{name}"))
        plots.append(MetricPlots(metric.title, box_plot(comparison, methods, metric), pairs))
    return plots
