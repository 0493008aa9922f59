"""The two plots of cost, against slices and against classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LABELS = {
    "ours": "SAM2-3dMed",
    "cached_windows": "SAM2-3dMed, slices encoded once",
    "stock_windows": "SAM2-3dMed, stock windows",
    "nnunet_3d_fullres": "nnU-Net 3d_fullres",
    "video_1": "SAM2VideoPredictor, 1 object",
    "video_3": "SAM2VideoPredictor, 3 objects",
}


def plot_slices(result: dict[str, Any], device: str, file: Path) -> None:
    """Operations counted for the full size, and seconds as measured."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    counted, measured = figure.subplots(1, 2)
    rows = result["counted"]["rows"]
    slices = [row["slices"] for row in rows]
    for kind in ("cached_windows", "stock_windows", "nnunet_3d_fullres"):
        _line(counted, slices, [row[kind]["gflop"] / 1e3 for row in rows], LABELS[kind])
    _finish(counted, "slices", "TFLOP", f"counted, {result['counted']['image_size']} px")
    for name, by_slices in result["measured"]["by_contender"].items():
        points = [(int(n), r["median_seconds"]) for n, r in by_slices.items() if r.get("median_seconds")]
        if points:
            kind, precision = name.split("/")
            _line(measured, *zip(*points, strict=True), f"{LABELS[kind]} ({precision})")
    _finish(measured, "slices", "seconds", f"measured, {result['measured']['image_size']} px, {device}")
    _save(figure, file)


def plot_classes(result: dict[str, Any], device: str, file: Path) -> None:
    """Operations and seconds of one patch, as multiples of those for the fewest classes."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows = {int(n): r for n, r in result["by_classes"].items()}
    for entry, label in (("gflop_ratio", "operations, counted"), ("median_seconds_ratio", "seconds, measured")):
        points = [(n, r[entry]) for n, r in rows.items() if entry in r]
        if points:
            _line(axes, *zip(*points, strict=True), label)
    axes.set_xscale("log")
    axes.set_xticks(list(rows), [str(n) for n in rows])
    axes.minorticks_off()
    patch = " x ".join(map(str, result["patch"]))
    _finish(axes, "classes", f"multiple of the cost of {min(rows)} class", f"one patch of {patch}, {device}")
    _save(figure, file)


def _line(axes: Axes, x: Any, y: Any, label: str) -> None:
    axes.plot(x, y, marker="o", markersize=3, label=label)


def _finish(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
