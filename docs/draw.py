"""Draw the two pictures of the documentation, ``docs/images/network.svg`` and ``docs/images/data_path.svg``.

python docs/draw.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path(__file__).parent / "images"
# light and opaque, so that the pictures can be read on a dark page too
BACKGROUND, INK, GREY = "#ffffff", "#1f2933", "#6b7785"
FROZEN, TRAINED, TRAINING_ONLY, LOSS = "#dbe7f3", "#d8efdd", "#fdebd0", "#f3dcdc"
FOLDER, FILES = "#fff6d6", "#eef1f4"
Place = tuple[float, float]


def label(axes: Axes, place: Place, text: str, centred: bool = False) -> None:
    """Small grey text beside an arrow."""
    axes.text(*place, text, ha="center" if centred else "left", va="center", fontsize=7.6, color=GREY)


def canvas(width: float, height: float) -> Axes:
    """An empty picture of a size in inches, whose units are tenths of an inch."""
    figure = plt.figure(figsize=(width, height), facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width * 10), ylim=(0, height * 10))
    axes.axis("off")
    return axes


def box(axes: Axes, place: Place, size: Place, title: str, text: str = "", colour: str = TRAINED, dashed=False) -> None:
    """A rounded box with a title and smaller text; ``place`` is its centre."""
    (x, y), (w, h) = place, size
    style = "round,pad=0,rounding_size=0.8"
    edge = {"linestyle": (0, (4, 2)) if dashed else "solid", "edgecolor": INK, "linewidth": 0.9}
    axes.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=style, facecolor=colour, **edge))
    lines = text.count("\n") + 1 if text else 0
    axes.text(x, y + 0.75 * lines, title, ha="center", va="center", fontsize=9, color=INK, weight="bold")
    if text:
        axes.text(x, y - 0.9, text, ha="center", va="center", fontsize=7.6, color=INK, linespacing=1.25)


def arrow(
    axes: Axes, start: Place, end: Place, text: str = "", dashed=False, bend: float = 0, above: float = 1.0
) -> None:
    """An arrow with text beside its middle."""
    line = (0, (4, 2)) if dashed else "solid"
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, connectionstyle=style, color=INK, linestyle=line, lw=1.0
        )
    )
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above
        label(axes, middle, text, True)


def network() -> Axes:
    """SAM2-3dMed: from a patch to the three losses."""
    axes = canvas(11, 5)
    box(axes, (7, 29), (11, 12), "patch", "C x D x H x W\nfrom nnU-Net;\nD slices of\nS x S pixels", FILES)
    box(axes, (22.5, 29), (13, 12), "Hiera trunk", "of SAM 2's image\nencoder, on each\nslice by itself", FROZEN)
    box(axes, (38, 29), (11, 12), "FPN neck", "features $Z_i$\nof strides\n4, 8 and 16")
    for start, end in ((12.5, 16), (29, 32.5)):
        arrow(axes, (start, 29), (end, 29))

    box(axes, (56.5, 29), (15, 8), "memory attention", "$Z_i$ attends to the\nmemory of 7 slices")
    box(axes, (74, 29), (13, 8), "mask decoder", "K mask tokens,\nno prompt")
    box(axes, (90, 29), (12, 8), "masks", "K logits per voxel\n(background 0)", FILES)
    box(axes, (65.5, 17.5), (17, 6), "memory encoder", "features and masks of slice i")
    arrow(axes, (43.5, 29), (49, 29))
    arrow(axes, (64, 29), (67.5, 29))
    arrow(axes, (80.5, 29), (84, 29))
    arrow(axes, (76, 25), (74, 17.5), bend=-0.35)
    arrow(axes, (57, 17.5), (54, 25), bend=-0.35)
    label(axes, (51.2, 20.3), "slices\ni+1, i+2, ...", True)

    box(axes, (56.5, 42), (15, 8), "memory attention", "with weights\nof its own", TRAINING_ONLY, True)
    box(axes, (74, 42), (13, 8), "BD fusion", "cross attention\nto $Z_i$, decoder", TRAINING_ONLY, True)
    box(axes, (90, 42), (12, 8), "boundaries", "K logits per pixel", FILES, True)
    arrow(axes, (42, 35), (49, 41), dashed=True)
    arrow(axes, (64, 42), (67.5, 42), dashed=True)
    arrow(axes, (80.5, 42), (84, 42), dashed=True)

    box(axes, (56.5, 7), (15, 8), "SRPP", "transformer over\nslice descriptors", TRAINING_ONLY, True)
    box(axes, (74, 7), (13, 8), "MLP", "for each pair\nof slices i, j", TRAINING_ONLY, True)
    box(axes, (90, 7), (12, 8), "offsets", "$P_{ij}$: slices\nfrom i to j", FILES, True)
    arrow(axes, (42, 23), (49, 8), dashed=True)
    arrow(axes, (64, 7), (67.5, 7), dashed=True)
    arrow(axes, (80.5, 7), (84, 7), dashed=True)

    for y, name, weight in ((42, "$L_{bd}$", "0.1"), (29, "$L_{seg}$", "1"), (7, "$L_{srpp}$", "0.01")):
        axes.add_patch(plt.Circle((103.5, y), 3.2, facecolor=LOSS, edgecolor=INK, lw=0.9))
        axes.text(103.5, y, name, ha="center", va="center", fontsize=9, color=INK)
        axes.text(103.5, y - 4.6, f"weight {weight}", ha="center", va="center", fontsize=7.6, color=GREY)
        arrow(axes, (96, y), (100.3, y), dashed=y != 29)

    keys = ((FROZEN, "frozen", False), (TRAINED, "trained, used in prediction", False))
    for place, (colour, text, dashed) in enumerate((*keys, (TRAINING_ONLY, "used in training only", True))):
        y = 9 - 3.4 * place
        box(axes, (4.2, y), (3.4, 2.2), "", "", colour, dashed)
        axes.text(7, y, text, ha="left", va="center", fontsize=8, color=INK)
    return axes


def data_path() -> Axes:
    """Folders and commands from nnU-Net's raw data to the report, and with prompts back to the raw data."""
    axes = canvas(11, 4.6)
    box(axes, (9, 36), (15, 10), "nnUNet_raw", "imagesTr, labelsTr,\ndataset.json", FOLDER)
    box(axes, (37, 36), (17, 10), "nnUNet_preprocessed", "cases, folds and plans,\nwith configuration 3d", FOLDER)
    box(axes, (68, 36), (19, 10), "nnUNet_results", "TRAINER__PLANS__3d/fold_0:\ncheckpoints, validation", FOLDER)
    box(axes, (99, 36), (16, 10), "comparison_fold_0", "tables, CSV, JSON,\nreport.html", FOLDER)
    arrow(axes, (16.5, 36), (28.5, 36), "nnUNetv2_plan_\nand_preprocess,\nsam2_3dmed plan", above=3.9)
    arrow(axes, (45.5, 36), (58.5, 36), "nnUNetv2_train\n-tr TRAINER", above=2.8)
    arrow(axes, (77.5, 36), (91, 36), "sam2_3dmed\ncompare, report", above=2.8)

    box(axes, (37, 20), (20, 9), "SAM2_3dMed_weights", "SAM 2's checkpoints, from\nsam2_3dmed weights", FOLDER)
    arrow(axes, (47, 22.5), (59, 31))
    label(axes, (55.5, 25), "initial weights")

    box(axes, (99, 20), (16, 8), "segmentations", "of new images", FILES)
    arrow(axes, (77.5, 33), (91, 22))
    label(axes, (86.5, 28.2), "nnUNetv2_predict")

    box(axes, (68, 7), (19, 9), "masks of a round", "from points, boxes, scribbles\nor masks on a few slices", FILES)
    arrow(axes, (68, 31), (68, 11.5))
    axes.text(
        69,
        19,
        "sam2_3dmed segment,\nsam2_3dmed annotate rank\n(prompt trainers)",
        fontsize=7.6,
        color=GREY,
        va="center",
    )
    arrow(axes, (44, 15.5), (58.5, 9), "", bend=0.1)
    arrow(axes, (58.5, 5.5), (4.5, 31), bend=-0.28)
    label(axes, (30, 2.4), "sam2_3dmed annotate take: masks reviewed by an annotator", True)
    return axes


def main() -> None:
    """Write both pictures."""
    # text as paths, so that a viewer's fonts change nothing; the salt makes ids the same in each run
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": "sam2_3dmed", "font.family": "DejaVu Sans"}):
        for draw in (network, data_path):
            figure = draw().figure
            figure.savefig(IMAGES / f"{draw.__name__}.svg", metadata={"Date": None}, facecolor=BACKGROUND)
            plt.close(figure)


if __name__ == "__main__":
    main()
