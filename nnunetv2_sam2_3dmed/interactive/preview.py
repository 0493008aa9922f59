"""Picture of a session's prompts and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from nnunetv2_sam2_3dmed.files import write_png
from nnunetv2_sam2_3dmed.images.overlays import class_colour, draw_mask
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession

PANELS = 5
PANEL_INCHES = 2.6


def write_preview(path: Path, session: InteractiveSession, labels: np.ndarray, axis: int) -> None:
    """Draw up to five slices along ``axis`` with the objects' outlines and the prompts.

    Args:
        path: of the PNG file, which appears whole or not at all.
        session: with the image and the prompts.
        labels: (z, y, x), ``session.labels()``.
        axis: along which the slices lie.
    """
    figure = draw_preview(session, labels, axis)
    write_png(path, figure)


def choose_panels(labels: np.ndarray, prompted: list[int], axis: int, count: int = PANELS) -> list[int]:
    """Choose slices with prompts first, then others spread over the extent of the objects; in order."""
    others = tuple(k for k in range(3) if k != axis)
    extent = np.flatnonzero(labels.any(axis=others)).tolist()
    return spread_over(prompted, extent, count) or [labels.shape[axis] // 2]


def spread_over(prompted: list[int], extent: list[int], count: int = PANELS) -> list[int]:
    """Choose up to ``count`` of the indices with prompts, and others spread over those with objects; in order."""
    chosen = prompted[:count]
    extent = [index for index in extent if index not in chosen]
    free = count - len(chosen)
    if extent and free:
        places = np.linspace(0, len(extent) - 1, min(free, len(extent)))
        chosen = chosen + [extent[int(round(place))] for place in places]
    return sorted(set(chosen))


def draw_preview(session: InteractiveSession, labels: np.ndarray, axis: int) -> Figure:
    """Draw the figure of :func:`write_preview`."""
    image = session.image
    view = image.view(axis)
    indices = choose_panels(labels, sorted({p.index for p in session.prompts if p.axis == axis}), axis)
    spacing = [image.spacing[k] for k in view.order]
    _, rows, columns = view.shape(image.shape)
    aspect = spacing[1] / spacing[2]
    tall = float(np.clip(rows * aspect / columns, 0.2, 3.0))
    figure = Figure(figsize=(PANEL_INCHES * len(indices), PANEL_INCHES * tall + 0.8), facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(indices), squeeze=False)[0]
    objects = session.object_ids
    seen = view.of(labels)
    for panel, index in zip(panels, indices):
        panel.imshow(session.slice_as_seen(axis, index), cmap="gray", vmin=0, vmax=255, aspect=aspect)
        for number in objects:
            draw_mask(panel, seen[view.slice_index(index, image.shape)] == number, class_colour(number, objects))
        draw_prompts(panel, session, axis, index)
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"slice {index}", fontsize=9)
    handles = [Patch(color=class_colour(number, objects), label=f"object {number}") for number in objects]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 7) or 1, frameon=False, fontsize=9)
    figure.suptitle(image.name, fontsize=11)
    figure.subplots_adjust(0.01, 0.4 / figure.get_figheight(), 0.99, 1 - 0.5 / figure.get_figheight(), wspace=0.03)
    return figure


def draw_prompts(panel: Axes, session: InteractiveSession, axis: int, index: int) -> None:
    """Draw the prompts of all objects on a slice: points as crosses, boxes as frames."""
    for prompted in session.prompts:
        if (prompted.axis, prompted.index) != (axis, index):
            continue
        prompt = prompted.prompt
        for value, marker, colour in ((1, "+", "lime"), (0, "x", "red")):
            here = prompt.points[prompt.labels == value]
            if prompt.mask is None and len(here):
                panel.plot(here[:, 1], here[:, 0], marker, color=colour, markersize=7, markeredgewidth=1.5)
        if prompt.box is not None and prompt.mask is None:
            top, left, bottom, right = prompt.box
            panel.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="yellow"))
