"""Pictures of the best, median and worst cases: slices with contours, and surfaces."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from nnunetv2_sam2_3dmed.evaluation.cases import find_image, find_predictions
from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.scores import DICE
from nnunetv2_sam2_3dmed.images.orientation import View
from nnunetv2_sam2_3dmed.images.overlays import (
    CaseOverlay,
    choose_slices,
    class_colour,
    draw_overlay,
    intensity_window,
)
from nnunetv2_sam2_3dmed.report.methods import ReportMethod
from nnunetv2_sam2_3dmed.report.surfaces import draw_surfaces
from nnunetv2_sam2_3dmed.report.volumes import any_of, read_image, read_labels, view_of

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

DPI = 100
PALETTE = 128  # colours of a picture
FONT_SIZE = 13  # points, in pictures that are shown at about two thirds of their size
BLACK, WHITE = "#101114", "#F2F2F2"  # as on a light box: the same on a light and on a dark page
_CROP_MARGIN = 0.4  # on each side, of the size of the foreground


@dataclass(frozen=True)
class ComparedFiles:
    """Files of the compared cases, and their reader.

    Attributes:
        reader: nnU-Net's, for the dataset.
        file_ending: with its dot.
        raw_folder: the dataset in nnUNet_raw; None where that is not set.
        gt_folder: of the ground truth.
        predictions: file by case, by method.
        label_names: of the foreground label values.
        is_ct: true if the first channel is CT.
    """

    reader: BaseReaderWriter
    file_ending: str
    raw_folder: Path | None
    gt_folder: Path
    predictions: Mapping[str, Mapping[str, Path]]
    label_names: Mapping[int, str]
    is_ct: bool

    @classmethod
    def of(
        cls, comparison: Comparison, dataset_json: Mapping[str, Any], reader: BaseReaderWriter, raw: Path | None
    ) -> ComparedFiles:
        """The files of the cases of ``comparison``."""
        ending = dataset_json["file_ending"]
        channels = dataset_json.get("channel_names") or {"0": ""}
        return cls(
            reader,
            ending,
            raw,
            Path(comparison.gt_folder),
            {name: find_predictions(folders, ending) for name, folders in comparison.methods.items()},
            label_names(comparison.classes),
            str(next(iter(channels.values()))).upper() == "CT",
        )

    def image(self, case: str) -> list[Path]:
        """The files of the case's channels; empty if there are none."""
        return find_image(self.raw_folder, case, self.file_ending) if self.raw_folder is not None else []

    def labels(self, case: str) -> tuple[np.ndarray, dict[str, np.ndarray], View, tuple[float, float, float]]:
        """Ground truth and predictions of a case, by method, in the view of the ground truth; the view; its spacing.

        Predictions are turned by the header of the ground truth, since they were compared voxel by voxel.
        """
        gt, properties = read_labels(self.gt_folder / f"{case}{self.file_ending}", self.reader)
        view, spacing = view_of(properties)
        found = {name: view.of(read_labels(files[case], self.reader)[0]) for name, files in self.predictions.items()}
        return view.of(gt), found, view, spacing


def label_names(classes: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """A name for each label value: its class, or the regions that it belongs to."""
    values = sorted({value for of_class in classes.values() for value in of_class})
    return {value: ", ".join(name for name, of_class in classes.items() if value in of_class) for value in values}


def png(figure: Figure, transparent: bool = False) -> str:
    """The figure as a ``data:`` address: a PNG with a palette, a third to a fifth of the size of one without."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    background = "none" if transparent else figure.get_facecolor()
    figure.savefig(drawn, dpi=DPI, facecolor=background, bbox_inches=None if transparent else "tight")
    with Image.open(drawn) as image:
        # the one method that keeps transparency
        image.quantize(PALETTE, Image.Quantize.FASTOCTREE).save(reduced, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(reduced.getvalue()).decode()


class ReportOverlay(CaseOverlay):
    """A case whose slices, where the ground truth is empty, are those of the predictions."""

    def __post_init__(self) -> None:
        found = [self.gt] if self.gt.any() else list(self.predictions.values())
        object.__setattr__(self, "slices", choose_slices(np.maximum.reduce(found)))


def overlay_picture(
    comparison: Comparison, methods: Sequence[ReportMethod], case: str, files: ComparedFiles
) -> str | None:
    """Slices of the case: image, ground truth and each method; None without an image on the same grid."""
    channels = files.image(case)
    if not channels:
        return None
    gt, predictions, view, spacing = files.labels(case)
    image = view.of(read_image(channels[0], files.reader))
    if image.shape != gt.shape:
        return None
    window = intensity_window(image, files.is_ct)
    crop = crop_to(any_of([gt, *predictions.values()], files.label_names))

    def cropped(volume: np.ndarray) -> np.ndarray:
        return np.where(np.isin(volume[crop], list(files.label_names)), volume[crop], 0)

    overlay = ReportOverlay(
        name=case,
        image=image[crop],
        gt=cropped(gt),
        predictions={method.name: cropped(predictions[method.name]) for method in methods},
        spacing=spacing,
        class_names=files.label_names,
        window=window,
    )
    figure = draw_overlay(overlay)
    figure.set_facecolor(BLACK)
    figure.suptitle("")  # the page has the case's name
    figure.axes[1].set_title("ground truth")
    for axes, method in zip(figure.axes[2:], methods):
        axes.set_title(f"{wrapped(method.label)}\nDice {_dice(comparison, method, case):.3f}")
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


def surface_pictures(methods: Sequence[ReportMethod], case: str, files: ComparedFiles) -> list[tuple[str, str]] | None:
    """Pictures of the surfaces of the ground truth and of each method, with their names; None for a 2D image."""
    gt, predictions, _, spacing = files.labels(case)
    if gt.shape[0] < 2:
        return None
    values = list(files.label_names)
    colours = {value: class_colour(value, values) for value in values}
    volumes = [gt, *(predictions[method.name] for method in methods)]
    names = ["ground truth", *(method.label for method in methods)]
    figures = draw_surfaces(volumes, spacing, colours)
    return [(name, png(figure, transparent=True)) for name, figure in zip(names, figures, strict=True)]


@dataclass(frozen=True)
class ChosenCase:
    """A case to show: ``why`` is ``best``, ``median`` or ``worst``, ``dice`` its foreground mean Dice."""

    why: str
    case: str
    dice: float


def choose_cases(comparison: Comparison, method: str) -> list[ChosenCase]:
    """The best, the median and the worst case of a method by foreground mean Dice, each case once.

    Of an even number of cases, the median case is the better of the two in the middle. Equal scores are ordered by
    name. With two cases there is no median, with one only the best.
    """
    dice = comparison.case_scores(method, DICE)
    order = sorted(range(len(dice)), key=lambda i: (-dice[i], comparison.cases[i]))
    places = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    chosen: dict[int, ChosenCase] = {}
    for why in ("best", "worst", "median"):
        index = order[places[why]]
        chosen.setdefault(index, ChosenCase(why, comparison.cases[index], float(dice[index])))
    return sorted(chosen.values(), key=lambda c: list(places).index(c.why))


@dataclass(frozen=True)
class CasePicture:
    """An overlay.

    Attributes:
        case: the case.
        reasons: of the choice, such as ``best of nnUNetTrainer``.
        picture: as a ``data:`` address.
        description: alternative text.
    """

    case: str
    reasons: Sequence[str]
    picture: str
    description: str


@dataclass(frozen=True)
class CaseSurfaces:
    """Surfaces of one case: name and picture, of the ground truth and of each method."""

    case: str
    why: str
    panels: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Gallery:
    """All pictures; notes name the missing ones.

    Attributes:
        overlays: one per chosen case.
        surfaces: of the cases chosen for the reference.
        classes: name and colour of each class in the pictures.
        notes: sentences about missing pictures.
    """

    overlays: Sequence[CasePicture] = ()
    surfaces: Sequence[CaseSurfaces] = ()
    classes: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default_factory=list)


def make_gallery(
    comparison: Comparison,
    methods: Sequence[ReportMethod],
    reference: ReportMethod,
    files: ComparedFiles,
    say: Callable[[str], None],
) -> Gallery:
    """Draw everything.

    Args:
        comparison: to show.
        methods: of it.
        reference: the method whose cases get surfaces.
        files: of the cases.
        say: called with a sentence on each step.
    """
    overlays, without = [], []
    reasons = chosen_by_case(comparison, methods)
    for case, why in reasons.items():
        say(f"drawing {case}")
        picture = overlay_picture(comparison, methods, case, files)
        if picture is None:
            without.append(case)
            continue
        dice = ", ".join(f"{m.label} {_dice(comparison, m, case):.3f}" for m in methods)
        description = f"Slices of {case}: image, ground truth, and the contours of each method; Dice: {dice}."
        overlays.append(CasePicture(case, why, picture, description))
    notes = []
    if without:
        where = "nnUNet_raw is not set" if files.raw_folder is None else f"not in {files.raw_folder}"
        notes.append(f"No image on the grid of its ground truth was found for {', '.join(without)} ({where}).")

    surfaces = []
    for chosen in choose_cases(comparison, reference.name):
        say(f"drawing surfaces of {chosen.case}")
        panels = surface_pictures(methods, chosen.case, files)
        if panels is None:
            notes.append("The images have two dimensions: there are no surfaces.")
            break
        scored = [panels[0], *(_with_dice(panel, comparison, m, chosen.case) for panel, m in zip(panels[1:], methods))]
        surfaces.append(CaseSurfaces(chosen.case, chosen.why, scored))
    values = list(files.label_names)
    classes = [(name, class_colour(value, values)) for value, name in files.label_names.items()]
    return Gallery(overlays, surfaces, classes, notes)


def _dice(comparison: Comparison, method: ReportMethod, case: str) -> float:
    return float(comparison.case_scores(method.name, DICE)[comparison.cases.index(case)])


def _with_dice(panel: tuple[str, str], comparison: Comparison, method: ReportMethod, case: str) -> tuple[str, str]:
    name, picture = panel
    return f"{name}, Dice {_dice(comparison, method, case):.3f}", picture


def chosen_by_case(comparison: Comparison, methods: Sequence[ReportMethod]) -> dict[str, list[str]]:
    """Reasons of each chosen case: best, median or worst of a method; a case chosen twice is shown once."""
    reasons: dict[str, list[str]] = {}
    for why in ("best", "median", "worst"):
        for method in methods:
            for chosen in choose_cases(comparison, method.name):
                if chosen.why == why:
                    reasons.setdefault(chosen.case, []).append(f"{why} of {method.label}")
    return reasons
