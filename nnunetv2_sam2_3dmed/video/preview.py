"""Picture of some frames of a video with prompts and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunetv2_sam2_3dmed.files import write_png
from nnunetv2_sam2_3dmed.images.overlays import class_colour, draw_mask
from nnunetv2_sam2_3dmed.interactive.preview import PANEL_INCHES, draw_prompts, spread_over
from nnunetv2_sam2_3dmed.video.session import VideoSession


def write_preview(path: Path, session: VideoSession, areas: np.ndarray) -> None:
    """Draw up to five frames with the objects' outlines and the prompts.

    Args:
        path: of the PNG file, which appears whole or not at all.
        session: with the video and the prompts.
        areas: pixels of all objects on each frame, (frames,).
    """
    video, objects = session.image, session.object_ids
    prompted = sorted({prompted.index for prompted in session.prompts})
    indices = spread_over(prompted, np.flatnonzero(areas).tolist()) or [len(video) // 2]
    _, rows, columns = video.shape
    aspect = video.spacing[1] / video.spacing[2]
    tall = float(np.clip(rows * aspect / columns, 0.2, 3.0))
    figure = Figure(figsize=(PANEL_INCHES * len(indices), PANEL_INCHES * tall + 0.8), facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(indices), squeeze=False)[0]
    times = video.times
    for panel, index in zip(panels, indices):
        panel.imshow(video.frame(index), aspect=aspect)
        labels = session.frame_labels(index)
        for number in objects:
            draw_mask(panel, labels == number, class_colour(number, objects))
        draw_prompts(panel, session, 0, index)
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"frame {index}" + ("" if times is None else f", {times[index]:.2f} s"), fontsize=9)
    handles = [Patch(color=class_colour(number, objects), label=f"object {number}") for number in objects]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 7) or 1, frameon=False, fontsize=9)
    figure.suptitle(video.name, fontsize=11)
    figure.subplots_adjust(0.01, 0.4 / figure.get_figheight(), 0.99, 1 - 0.5 / figure.get_figheight(), wspace=0.03)
    write_png(path, figure)
