"""Pictures of single cases: slices with contours, and surfaces, for the cases that were chosen."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from nnunetv2_sam2_3dmed.evaluation.sources import find_image, find_predictions
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.images.overlays import (
    CaseOverlay,
    choose_slices,
    class_colour,
    draw_overlay,
    intensity_window,
)
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.scores import METRICS, case_scores
from nnunetv2_sam2_3dmed.report.surfaces import draw_surfaces
from nnunetv2_sam2_3dmed.report.volumes import View, any_of, read_image, read_labels

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

DPI = 100
FONT_SIZE = 13  # points, in pictures that are shown at about two thirds of their size
BLACK, WHITE = "#101114", "#F2F2F2"  # as on a light box: the same on a light and on a dark page
_CROP_MARGIN = 0.4  # of the size of what is cropped to, on each side


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's files are and how they are read.

    Attributes:
        reader: nnU-Net's, for the dataset.
        file_ending: with its dot.
        raw_folder: the dataset in nnUNet_raw; None where that is not set.
        truth_folder: of the true segmentations.
        predictions: file by case, by method.
        label_names: of the foreground label values.
        is_ct: whether the first channel is CT.
    """

    reader: BaseReaderWriter
    file_ending: str
    raw_folder: Path | None
    truth_folder: Path
    predictions: Mapping[str, Mapping[str, Path]]
    label_names: Mapping[int, str]
    is_ct: bool

    @classmethod
    def of(
        cls, comparison: Comparison, dataset_json: Mapping[str, Any], reader: BaseReaderWriter, raw: Path | None
    ) -> CaseFiles:
        """The files of the cases of ``comparison``."""
        ending = dataset_json["file_ending"]
        channels = dataset_json.get("channel_names") or {"0": ""}
        return cls(
            reader,
            ending,
            raw,
            Path(comparison.truth_folder),
            {name: find_predictions(folders, ending) for name, folders in comparison.methods.items()},
            label_names(comparison.classes),
            str(next(iter(channels.values()))).upper() == "CT",
        )

    def image(self, case: str) -> list[Path]:
        """The files of the case's channels; empty if there are none."""
        return find_image(self.raw_folder, case, self.file_ending) if self.raw_folder is not None else []

    def labels(self, case: str) -> tuple[np.ndarray, dict[str, np.ndarray], View]:
        """Truth and predictions by method of a case, all turned by the truth's view: they were compared by voxels."""
        truth, view = read_labels(self.truth_folder / f"{case}{self.file_ending}", self.reader)
        found = {name: read_labels(files[case], self.reader, view)[0] for name, files in self.predictions.items()}
        return truth, found, view


def label_names(classes: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """A name for each label value: its class, or the regions that it belongs to."""
    values = sorted({value for of_class in classes.values() for value in of_class})
    return {value: ", ".join(name for name, of_class in classes.items() if value in of_class) for value in values}


def png(figure: Figure, transparent: bool = False) -> str:
    """The figure as a ``data:`` address."""
    buffer = io.BytesIO()
    background = "none" if transparent else figure.get_facecolor()
    figure.savefig(
        buffer,
        format="png",
        dpi=DPI,
        facecolor=background,
        bbox_inches=None if transparent else "tight",
        pil_kwargs={"optimize": True},
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class ReportOverlay(CaseOverlay):
    """A case of which slices are shown even where its truth is empty: those of what the methods found there."""

    def __post_init__(self) -> None:
        found = [self.truth] if self.truth.any() else list(self.predictions.values())
        object.__setattr__(self, "slices", choose_slices(np.maximum.reduce(found)))


def overlay_picture(comparison: Comparison, methods: Sequence[Method], case: str, files: CaseFiles) -> str | None:
    """Slices of the case: image, truth and each method; None where there is no image of it on the same grid."""
    channels = files.image(case)
    if not channels:
        return None
    truth, predictions, view = files.labels(case)
    image, _ = read_image(channels[0], files.reader, view)
    if image.shape != truth.shape:
        return None
    window = intensity_window(image, files.is_ct)
    crop = crop_to(any_of([truth, *predictions.values()], files.label_names))

    def cropped(volume: np.ndarray) -> np.ndarray:
        return np.where(np.isin(volume[crop], list(files.label_names)), volume[crop], 0)

    overlay = ReportOverlay(
        name=case,
        image=image[crop],
        truth=cropped(truth),
        predictions={method.name: cropped(predictions[method.name]) for method in methods},
        spacing=view.spacing_mm,
        class_names=files.label_names,
        window=window,
    )
    figure = draw_overlay(overlay)
    figure.set_facecolor(BLACK)
    figure.suptitle("")  # the page has the case's name
    for axes, method in zip(figure.axes[2:], methods):
        dice = case_scores(comparison, method.name, METRICS[0])[comparison.cases.index(case)]
        axes.set_title(f"{wrapped(method.label)}\nDice {dice:.3f}")
    for text in figure.findobj(Text):
        text.set(color=WHITE, parse_math=False, fontsize=FONT_SIZE)
    return png(figure)


def wrapped(label: str, width: int = 22, lines: int = 3) -> str:
    """A label in lines of at most ``width`` characters, broken at spaces and after underscores."""
    return "\n".join(line.replace("_ ", "_") for line in textwrap.wrap(label.replace("_", "_ "), width)[:lines])


def crop_to(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """All slices, and of rows and columns those around ``mask`` (slices, rows, columns); all if it is empty."""
    crop = [slice(None)]
    for axis in (1, 2):
        inside = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(inside):
            return slice(None), slice(None), slice(None)
        size = int(inside[-1] - inside[0] + 1)
        margin = int(np.ceil(max(8, _CROP_MARGIN * size)))
        crop.append(slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin))
    return crop[0], crop[1], crop[2]


def surface_pictures(methods: Sequence[Method], case: str, files: CaseFiles) -> list[tuple[str, str]] | None:
    """A picture of the truth's surface and of each method's, with their names; None for a 2D image."""
    truth, predictions, view = files.labels(case)
    if truth.shape[0] < 2:
        return None
    values = list(files.label_names)
    colours = {value: class_colour(value, values) for value in values}
    volumes = [truth, *(predictions[method.name] for method in methods)]
    figures = draw_surfaces(volumes, view.spacing_mm, colours)
    return [(name, png(f, transparent=True)) for name, f in zip(["truth", *(m.label for m in methods)], figures)]
