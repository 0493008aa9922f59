"""Plots of the report as inline SVG: box plots, cases against the reference, and training curves.

The SVG belongs to the page: it takes the page's text colour and font, and its identifiers do not clash.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.scores import Metric
from nnunetv2_sam2_3dmed.report.methods import ReportMethod
from nnunetv2_sam2_3dmed.report.training_curves import TrainingCurve

# a colour that no method has; written as the page's own text colour
INK = "#010203"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "font.size": 9.5,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",  # text stays text: it can be selected, read aloud and scaled
    "text.color": INK,
    "text.parse_math": False,  # a case or method may have a $ in its name
    "xtick.color": INK,
    "ytick.color": INK,
}

WIDTH, HEIGHT = 5.0, 3.5  # inches
CURVE_HEIGHT = 3.2  # inches
_NAMED_CASES = 2  # cases named in a scatter plot: the largest differences


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in the report's style, ``width`` x ``height`` inches; draw and :func:`inline_svg` it inside."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an ``<svg>`` element to be put into a page.

    Args:
        figure: made by :func:`new_figure`.
        name: unique within the page; all identifiers in the figure start with it.
        description: alternative text.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # the style would hold for the whole page, which has it in its own style sheet
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor")
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = (
        f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="--width: {width:g}px" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(re.sub(r"<svg.*?>", lambda _: opening, text, count=1, flags=re.DOTALL).strip())


def box_plot(comparison: Comparison, methods: Sequence[ReportMethod], metric: Metric) -> Markup:
    """Boxes (quartiles, whiskers to 1.5 interquartile ranges) of each class and method, with every case a point."""
    names = comparison.class_names
    width = max(WIDTH, 0.9 + 0.36 * len(names) * (len(methods) + 1))
    with new_figure(width, HEIGHT) as figure:
        axes = figure.add_subplot()
        step = 0.8 / len(methods)
        jitter = np.random.default_rng(0)  # the same picture every time
        for index, method in enumerate(methods):
            places = np.arange(len(names)) + (index - (len(methods) - 1) / 2) * step
            values = [comparison.case_scores(method.name, metric, name) for name in names]
            present = [v[~np.isnan(v)] for v in values]
            axes.boxplot(
                present,
                positions=places,
                widths=step * 0.75,
                showfliers=False,
                manage_ticks=False,
                boxprops={"color": method.colour, "linewidth": 1.3},
                whiskerprops={"color": method.colour},
                capprops={"color": method.colour},
                medianprops={"color": method.colour, "linewidth": 2.4},
            )
            x = np.concatenate([np.full(len(v), p) for p, v in zip(places, present, strict=True)])
            x = x + jitter.uniform(-0.22, 0.22, len(x)) * step
            axes.plot(x, np.concatenate(present), method.marker, color=method.colour, ms=2.6, mew=0, alpha=0.55)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(metric.title)
        _bound(axes, metric, "y")
        description = (
            f"Box plots of {metric.title} per class, for {', '.join(m.label for m in methods)}; the numbers are in "
            "the table of results."
        )
        return inline_svg(figure, f"box-{metric.attribute}", description)


def scatter_plot(
    comparison: Comparison, method: ReportMethod, reference: ReportMethod, metric: Metric, name: str
) -> Markup:
    """Each case a point: the reference's foreground mean across, the method's up."""
    x = comparison.case_scores(reference.name, metric)
    y = comparison.case_scores(method.name, metric)
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.add_subplot()
        axes.plot(x, y, method.marker, color=method.colour, ms=4.5, mew=0, alpha=0.7)
        both = np.concatenate([x, y])
        both = both[~np.isnan(both)]
        low, high = (both.min(), both.max()) if len(both) else (0.0, 1.0)
        margin = 0.06 * (high - low) or 0.05
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.axline((0, 0), slope=1, color=INK, lw=0.9, ls=(0, (4, 3)), alpha=0.6)
        axes.grid(True, axis="both")
        axes.set_box_aspect(1)
        axes.set_xlabel(f"{metric.title}: {_wrapped(reference.label)}")
        axes.set_ylabel(f"{metric.title}: {_wrapped(method.label)}")
        _name_cases(axes, comparison.cases, x, y)
        better = "above" if metric.larger_is_better else "below"
        description = (
            f"{metric.title} of {method.label} against {reference.label}, a point per case; {method.label} is better "
            f"where points lie {better} the diagonal: {count_better(x, y, metric)}."
        )
        return inline_svg(figure, name, description)


def waterfall_plot(
    comparison: Comparison, method: ReportMethod, reference: ReportMethod, metric: Metric, name: str
) -> Markup:
    """The method's foreground mean minus the reference's, a bar per case, sorted from better to worse."""
    x = comparison.case_scores(reference.name, metric)
    y = comparison.case_scores(method.name, metric)
    difference = (y - x)[~np.isnan(y - x)]
    difference = np.sort(difference)[:: -1 if metric.larger_is_better else 1]
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.add_subplot()
        better = difference > 0 if metric.larger_is_better else difference < 0
        colours = [method.colour if good else reference.colour for good in better]
        axes.bar(range(len(difference)), difference, width=0.85, color=colours)
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xticks([])
        axes.set_xlabel(f"{len(difference)} cases, sorted")
        unit = f" ({metric.unit})" if metric.unit else ""
        axes.set_ylabel(f"difference in {metric.name}{unit}")
        description = (
            f"{metric.title} of {method.label} minus {reference.label} per case, sorted: {count_better(x, y, metric)}."
        )
        return inline_svg(figure, name, description)


def count_better(reference: np.ndarray, scores: np.ndarray, metric: Metric) -> str:
    """Numbers of cases in which a method is better and worse than the reference, in words; NaN counts for neither."""
    difference = (scores - reference) * (1 if metric.larger_is_better else -1)
    difference = difference[~np.isnan(difference)]
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    equal = len(difference) - better - worse
    return f"better in {better}, worse in {worse}" + (f", equal in {equal}" if equal else "") + f" of {len(difference)}"


def _name_cases(axes: Axes, cases: Sequence[str], x: np.ndarray, y: np.ndarray) -> None:
    """Write the names of the cases with the largest differences beside their points."""
    distance = np.nan_to_num(abs(y - x))
    middle = np.mean(axes.get_xlim())
    for index in np.argsort(-distance, kind="stable")[:_NAMED_CASES]:
        if distance[index] == 0:
            continue
        right = x[index] < middle
        axes.annotate(
            cases[index],
            (x[index], y[index]),
            xytext=(5 if right else -5, -2.5),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=7.5,
            alpha=0.8,
        )


def _bound(axes: Axes, metric: Metric, axis: str) -> None:
    """Limit an axis to possible scores: 1, or 0 mm."""
    low, high = getattr(axes, f"get_{axis}lim")()
    getattr(axes, f"set_{axis}lim")(max(low, 0), min(high, 1.005) if metric.larger_is_better else high)


def _wrapped(label: str, length: int = 40) -> str:
    return label if len(label) <= length else f"{label[: length - 1]}…"


def curve_plots(methods: Sequence[ReportMethod], curves: Mapping[str, Sequence[TrainingCurve]]) -> list[Markup]:
    """Pseudo Dice and losses, each against epochs and against time; no plot if there are no curves.

    Args:
        methods: of the report, for their colours.
        curves: one per fold, by the method's name.
    """
    if not any(curves.values()):
        return []
    plots = []
    for quantity in ("dice", "loss"):
        for scale in ("epochs", "hours"):
            plots.append(_curve_plot(methods, curves, quantity, scale))
    return plots


def _curve_plot(
    methods: Sequence[ReportMethod], curves: Mapping[str, Sequence[TrainingCurve]], quantity: str, scale: str
) -> Markup:
    longest = max(curve.hours[-1] for of_method in curves.values() for curve in of_method)
    minutes = longest < 2
    with new_figure(WIDTH, CURVE_HEIGHT) as figure:
        axes = figure.add_subplot()
        for method in methods:
            of_method = curves.get(method.name, ())
            thin: dict[str, Any] = {"color": method.colour, "lw": 1.4 if len(of_method) == 1 else 0.9}
            for curve in of_method:
                x = curve.epochs + 1 if scale == "epochs" else curve.hours * (60 if minutes else 1)
                if quantity == "dice":
                    axes.plot(x, curve.pseudo_dice, **thin)
                else:
                    axes.plot(x, curve.train_loss, **thin)
                    axes.plot(x, curve.val_loss, ls=(0, (3, 1.5)), alpha=0.75, **thin)
        axes.set_xlabel("epochs" if scale == "epochs" else "minutes of training" if minutes else "hours of training")
        axes.set_ylabel("pseudo Dice" if quantity == "dice" else "loss")
        if quantity == "dice":
            axes.set_ylim(0, max(axes.get_ylim()[1], 0.1))
        else:
            for line, label in (("-", "training"), ((0, (3, 1.5)), "validation")):
                axes.plot([], [], color=INK, ls=line, lw=1.2, label=label)
            axes.legend(frameon=False, fontsize=8.5)
        what = "mean pseudo Dice" if quantity == "dice" else "training and validation loss"
        description = f"{what} against {scale}, for {', '.join(m.label for m in methods if curves.get(m.name))}."
        return inline_svg(figure, f"curve-{quantity}-{scale}", description)
