"""Training curves as plots: losses and pseudo Dice against epochs and against hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.svg import INK, inline_svg, new_figure
from nnunetv2_sam2_3dmed.report.training_curves import TrainingCurve

WIDTH, HEIGHT = 5.0, 3.2  # inches


def curve_plots(methods: Sequence[Method], curves: Mapping[str, Sequence[TrainingCurve]]) -> list[Markup]:
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
            plots.append(_plot(methods, curves, quantity, scale))
    return plots


def _plot(
    methods: Sequence[Method], curves: Mapping[str, Sequence[TrainingCurve]], quantity: str, scale: str
) -> Markup:
    longest = max(curve.hours[-1] for of_method in curves.values() for curve in of_method)
    minutes = longest < 2
    with new_figure(WIDTH, HEIGHT) as figure:
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
