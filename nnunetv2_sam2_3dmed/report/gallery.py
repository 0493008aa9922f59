"""The pictures of the report: overlays and surfaces of the best, median and worst cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.images.overlays import class_colour
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.pictures import CaseFiles, overlay_picture, surface_pictures
from nnunetv2_sam2_3dmed.report.scores import METRICS, case_scores, choose_cases


@dataclass(frozen=True)
class CasePicture:
    """An overlay.

    Attributes:
        case: the case.
        reasons: why it was chosen, such as ``best of nnUNetTrainer``.
        picture: as a ``data:`` address.
        description: what is to be seen.
    """

    case: str
    reasons: Sequence[str]
    picture: str
    description: str


@dataclass(frozen=True)
class CaseSurfaces:
    """Surfaces of one case: name and picture, of the truth and of each method."""

    case: str
    why: str
    panels: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Gallery:
    """All pictures; what is missing is said in the notes.

    Attributes:
        overlays: one per chosen case.
        surfaces: of the cases chosen for the reference.
        classes: name and colour of each class in the pictures.
        notes: sentences about what could not be drawn.
    """

    overlays: Sequence[CasePicture] = ()
    surfaces: Sequence[CaseSurfaces] = ()
    classes: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default_factory=list)


def make_gallery(
    comparison: Comparison,
    methods: Sequence[Method],
    reference: Method,
    files: CaseFiles,
    say: Callable[[str], None],
) -> Gallery:
    """Draws everything.

    Args:
        comparison: what was compared.
        methods: of it.
        reference: the method whose cases get surfaces.
        files: of the cases.
        say: told what is being drawn.
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
        description = f"Slices of {case}: image, true contours, and the contours of each method; Dice: {dice}."
        overlays.append(CasePicture(case, why, picture, description))
    notes = []
    if without:
        where = "nnUNet_raw is not set" if files.raw_folder is None else f"not in {files.raw_folder}"
        notes.append(f"No image on the grid of its truth was found for {', '.join(without)} ({where}).")

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


def _dice(comparison: Comparison, method: Method, case: str) -> float:
    return float(case_scores(comparison, method.name, METRICS[0])[comparison.cases.index(case)])


def _with_dice(panel: tuple[str, str], comparison: Comparison, method: Method, case: str) -> tuple[str, str]:
    name, picture = panel
    return f"{name}, Dice {_dice(comparison, method, case):.3f}", picture


def chosen_by_case(comparison: Comparison, methods: Sequence[Method]) -> dict[str, list[str]]:
    """Why each case was chosen: best, median and worst of each method; a case chosen twice is shown once."""
    reasons: dict[str, list[str]] = {}
    for why in ("best", "median", "worst"):
        for method in methods:
            for chosen in choose_cases(comparison, method.name):
                if chosen.why == why:
                    reasons.setdefault(chosen.case, []).append(f"{why} of {method.label}")
    return reasons
