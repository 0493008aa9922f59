"""Puts the report together and writes it as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_sam2_3dmed.evaluation.published import SOURCE
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.evaluation.tables import FOLDS, RANKS, TESTS, coverage
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.report import papers, tables
from nnunetv2_sam2_3dmed.report.costs_section import CostsSection
from nnunetv2_sam2_3dmed.report.curve_plots import curve_plots
from nnunetv2_sam2_3dmed.report.facts import facts
from nnunetv2_sam2_3dmed.report.gallery import Gallery
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.plots import box_plot, scatter_plot, waterfall_plot
from nnunetv2_sam2_3dmed.report.scores import METRICS
from nnunetv2_sam2_3dmed.report.surfaces import MAX_VOXELS
from nnunetv2_sam2_3dmed.report.training_curves import TrainingCurve
from nnunetv2_sam2_3dmed.report.wording import caveats, summary_sentences

FILE = "report.html"


@dataclass(frozen=True)
class MetricPlots:
    """The plots of one metric: the box plot, and a scatter and a waterfall plot per method against the reference."""

    title: str
    box: Markup
    against_reference: Sequence[Markup]


@dataclass(frozen=True)
class Contents:
    """What the report shows beside the comparison.

    Attributes:
        methods: of the comparison, in its order.
        reference: the one that the others are compared with.
        folds: as the user named them.
        used: versions and machine.
        curves: of each method's trainings, by its name.
        costs: the table of costs.
        gallery: overlays and surfaces; None if they were not wanted.
    """

    methods: Sequence[Method]
    reference: Method
    folds: Sequence[str]
    used: Mapping[str, Any]
    curves: Mapping[str, Sequence[TrainingCurve]]
    costs: CostsSection
    gallery: Gallery | None


def render(comparison: Comparison, contents: Contents, now: datetime) -> str:
    """The report as HTML; everything that it shows is in it."""
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
    return environment.get_template("report.html").render(
        comparison=comparison,
        coverage=coverage(comparison),
        facts=facts(comparison, methods, contents.folds, contents.used, now),
        summary=summary_sentences(comparison, methods),
        caveats=caveats(comparison),
        contents=contents,
        methods=methods,
        reference=contents.reference,
        results=tables.results_tables(comparison, methods),
        paired=tables.paired_table(comparison, methods),
        ranks=tables.rank_table(comparison, methods),
        folds=tables.fold_table(comparison, methods),
        pairs=tables.pair_table(comparison, methods),
        cases=tables.case_table(comparison, methods),
        texts={"tests": TESTS, "ranks": RANKS, "folds": FOLDS, "published": SOURCE},
        plots=metric_plots(comparison, methods, contents.reference),
        curves=curve_plots(methods, contents.curves),
        without_curves=[method.label for method in methods if not contents.curves.get(method.name)],
        papers=papers.published_tables(comparison.dataset_name),
        papers_header=papers.HEADER,
        max_voxels=f"{MAX_VOXELS:,}",
        style=Markup(style),
    )


def metric_plots(comparison: Comparison, methods: Sequence[Method], reference: Method) -> list[MetricPlots]:
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


def write_page(page: str, folder: Path) -> Path:
    """Writes the page; returns the file."""
    write_text(folder / FILE, page)
    return folder / FILE
