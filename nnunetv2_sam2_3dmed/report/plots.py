"""Plots of a comparison: box plots, each method against the reference, and differences per case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.scores import Metric, case_scores, class_names
from nnunetv2_sam2_3dmed.report.svg import INK, inline_svg, new_figure

WIDTH, HEIGHT = 5.0, 3.5  # inches
_NAMED_CASES = 2  # cases named in a scatter plot: the largest differences


def box_plot(comparison: Comparison, methods: Sequence[Method], metric: Metric) -> Markup:
    """Boxes (quartiles, whiskers to 1.5 interquartile ranges) of each class and method, with every case a point."""
    names = class_names(comparison)
    width = max(WIDTH, 0.9 + 0.36 * len(names) * (len(methods) + 1))
    with new_figure(width, HEIGHT) as figure:
        axes = figure.add_subplot()
        step = 0.8 / len(methods)
        jitter = np.random.default_rng(0)  # the same picture every time
        for index, method in enumerate(methods):
            places = np.arange(len(names)) + (index - (len(methods) - 1) / 2) * step
            values = [case_scores(comparison, method.name, metric, name) for name in names]
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


def scatter_plot(comparison: Comparison, method: Method, reference: Method, metric: Metric, name: str) -> Markup:
    """Each case a point: the reference's foreground mean across, the method's up."""
    x = case_scores(comparison, reference.name, metric)
    y = case_scores(comparison, method.name, metric)
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


def waterfall_plot(comparison: Comparison, method: Method, reference: Method, metric: Metric, name: str) -> Markup:
    """The method's foreground mean minus the reference's, a bar per case, sorted from better to worse."""
    x = case_scores(comparison, reference.name, metric)
    y = case_scores(comparison, method.name, metric)
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
    """In how many cases a method is better and worse than the reference, in words; NaN counts for neither."""
    difference = (scores - reference) * (1 if metric.larger_is_better else -1)
    difference = difference[~np.isnan(difference)]
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    equal = len(difference) - better - worse
    return f"better in {better}, worse in {worse}" + (f", equal in {equal}" if equal else "") + f" of {len(difference)}"


def _name_cases(axes: Axes, cases: Sequence[str], x: np.ndarray, y: np.ndarray) -> None:
    """Writes the names of the cases with the largest differences beside their points."""
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
    """No room beyond what the score can be: 1, or 0 mm."""
    low, high = getattr(axes, f"get_{axis}lim")()
    getattr(axes, f"set_{axis}lim")(max(low, 0), min(high, 1.005) if metric.larger_is_better else high)


def _wrapped(label: str, length: int = 40) -> str:
    return label if len(label) <= length else f"{label[: length - 1]}…"
