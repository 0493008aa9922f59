"""Coloured masks on slices, and a picture of one case: image, ground truth and predictions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunetv2_sam2_3dmed.images.masks import dice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which stay distinct in every common form of colour blindness
CLASS_COLOURS = ("#56B4E9", "#E69F00", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#0072B2")
FILL_OPACITY = 0.35
# soft tissue, in Hounsfield units
CT_WINDOW = (-160.0, 240.0)
PERCENTILE_WINDOW = (0.5, 99.5)
ROWS = 3
COLUMN_INCHES = 2.6


@dataclass(frozen=True)
class CaseOverlay:
    """Content of the picture of one case.

    Attributes:
        name: of the case.
        image: intensities, (slices, rows, columns).
        gt: label map of the ground truth, same shape.
        predictions: label maps, same shape, by the name of the method.
        spacing: millimetres between voxels, (slices, rows, columns).
        class_names: of the foreground classes, by value.
        window: intensities that become black and white.
        synthetic: the case is synthetic, and the picture states it.
    """

    name: str
    image: np.ndarray
    gt: np.ndarray
    predictions: Mapping[str, np.ndarray]
    spacing: tuple[float, float, float]
    class_names: Mapping[int, str]
    window: tuple[float, float]
    synthetic: bool = False
    slices: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slices", choose_slices(self.gt))


def intensity_window(image: np.ndarray, is_ct: bool) -> tuple[float, float]:
    """Return the soft tissue window for CT, else the 0.5 and 99.5 percentiles."""
    if is_ct:
        return CT_WINDOW
    low, high = np.percentile(image, PERCENTILE_WINDOW)
    return float(low), float(max(high, low + 1e-6))


def mean_foreground_dice(gt: np.ndarray, prediction: np.ndarray, classes: Sequence[int]) -> float:
    """Return the Dice of the whole volume, averaged over ``classes``; a class that is in neither volume counts 1."""
    return float(np.mean([dice(gt == value, prediction == value) for value in classes]))


def choose_slices(gt: np.ndarray, count: int = ROWS) -> list[int]:
    """Choose up to ``count`` slices through the foreground, one from each part of its extent.

    Within a part, the slice is taken where the classes are largest, each relative to its own largest slice:
    a small lesion counts as much as the organ around it.
    """
    values = np.unique(gt[gt > 0])
    if not len(values):
        return [gt.shape[0] // 2]
    areas = np.stack([(gt == value).sum(axis=(1, 2)) for value in values])  # classes x slices
    score = (areas / areas.max(axis=1, keepdims=True)).sum(axis=0)
    parts = np.array_split(np.flatnonzero(score), count)
    return [int(part[np.argmax(score[part])]) for part in parts if len(part)]


def draw_overlay(case: CaseOverlay) -> Figure:
    """Draw image, ground truth and predictions in columns, slices in rows from the top down, classes below."""
    classes = list(case.class_names)
    columns: list[tuple[str, np.ndarray | None]] = [("image", None), ("ground truth", case.gt)]
    for method, prediction in case.predictions.items():
        mean = mean_foreground_dice(case.gt, prediction, classes)
        columns.append((f"{method}\nmean Dice {mean:.2f}", prediction))

    rows = list(reversed(case.slices))
    _, height, width = case.image.shape
    panel_height = COLUMN_INCHES * height * case.spacing[1] / (width * case.spacing[2])
    heading, legend, left = 0.95, 0.45, 0.35  # inches kept free for text
    size = (left + COLUMN_INCHES * len(columns), heading + panel_height * len(rows) + legend)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    figure.subplots_adjust(
        left / size[0], legend / size[1], 1 - 0.05 / size[0], 1 - heading / size[1], wspace=0.03, hspace=0.03
    )
    for row, index in enumerate(rows):
        for column, (title, label) in enumerate(columns):
            panel = axes[row, column]
            _draw_slice(panel, case, index, None if label is None else label[index])
            if row == 0:
                panel.set_title(title, fontsize=11)
        axes[row, 0].set_ylabel(f"slice {index}", fontsize=9, color="0.35")

    source = "   (synthetic data, no patient)" if case.synthetic else ""
    figure.suptitle(f"{case.name}{source}", fontsize=13, fontweight="bold", y=1 - 0.12 / size[1], va="top")
    figure.legend(
        handles=[Patch(color=class_colour(value, classes), label=case.class_names[value]) for value in classes],
        loc="lower center",
        ncols=min(len(classes), 7),
        frameon=False,
        fontsize=10,
    )
    return figure


def _draw_slice(panel: Axes, case: CaseOverlay, index: int, label: np.ndarray | None) -> None:
    low, high = case.window
    aspect = case.spacing[1] / case.spacing[2]
    panel.imshow(case.image[index], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    if label is None:
        return
    classes = list(case.class_names)
    for value in classes:
        draw_mask(panel, label == value, class_colour(value, classes), linewidth=1.3)


def draw_mask(panel: Axes, mask: np.ndarray, colour: str, linewidth: float = 1.0) -> None:
    """Draw a mask (rows, columns) over a slice: a translucent fill and an outline.

    Args:
        panel: that shows the slice.
        mask: bool.
        colour: #RRGGBB.
        linewidth: of the outline, in points.
    """
    if not mask.any():
        return
    fill = np.zeros((*mask.shape, 4))
    fill[..., :3] = to_rgb(colour)
    fill[..., 3] = FILL_OPACITY * mask
    panel.imshow(fill, aspect=panel.get_aspect(), interpolation="nearest")
    if not mask.all():  # a mask without an edge has no outline
        panel.contour(mask, levels=[0.5], colors=[colour], linewidths=linewidth)


def class_colour(value: int, classes: Sequence[int]) -> str:
    """Return the colour (#RRGGBB) of class ``value`` among ``classes``; colours repeat after the seventh."""
    return CLASS_COLOURS[list(classes).index(value) % len(CLASS_COLOURS)]
