"""Names, colours and markers of the methods, the same throughout the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# after Paul Tol's "bright" scheme, with light colours darkened: at least 3 : 1 against a white and a dark page
COLOURS = ("#4477AA", "#DD5566", "#228833", "#997700", "#2288AA", "#BB4499", "#777777")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SYMBOLS = ("●", "■", "▲", "◆", "▼", "✚", "✖")  # the markers as text
CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class ReportMethod:
    """A method's place in the report.

    Attributes:
        name: as the comparison calls it.
        label: shorter, for plots and headings; unique among the methods.
        colour: #RRGGBB; repeats after the seventh method.
        marker: of its points, in matplotlib's notation, so that methods differ by more than colour.
        symbol: the marker as a character.
        results_folder: TRAINER__PLANS__CONFIG with ``plans.json``; None for a folder of predictions.
        fold_folders: its ``fold_N`` folders that were compared; empty for a folder of predictions.
    """

    name: str
    label: str
    colour: str
    marker: str
    symbol: str
    results_folder: Path | None = None
    fold_folders: tuple[Path, ...] = ()

    @property
    def checkpoint(self) -> Path | None:
        """The final checkpoint of the first fold that has one."""
        return next((f / CHECKPOINT for f in self.fold_folders if (f / CHECKPOINT).is_file()), None)


def describe_methods(methods: Mapping[str, Sequence[Path]]) -> list[ReportMethod]:
    """The methods of a comparison, from their folders of predictions by name."""
    labels = short_labels(list(methods))
    described = []
    for index, (name, folders) in enumerate(methods.items()):
        folds = tuple(folder.parent for folder in folders if folder.name == "validation")
        parents = {fold.parent for fold in folds}
        results = parents.pop() if len(folds) == len(folders) and len(parents) == 1 else None
        if results is None or len(results.name.split("__")) != 3 or not (results / "plans.json").is_file():
            results, folds = None, ()
        described.append(
            ReportMethod(
                name,
                labels[index],
                COLOURS[index % len(COLOURS)],
                MARKERS[index % len(MARKERS)],
                SYMBOLS[index % len(SYMBOLS)],
                results,
                folds,
            )
        )
    return described


def short_labels(names: Sequence[str]) -> list[str]:
    """``TRAINER · CONFIG`` of names TRAINER__PLANS__CONFIG where that tells them apart, else the full names.

    The configuration is left out where all that have one share it.
    """
    parts = [name.split("__") for name in names]
    configurations = {part[2] for part in parts if len(part) == 3}
    labels = [
        name if len(part) != 3 else part[0] if len(configurations) == 1 else f"{part[0]} · {part[2]}"
        for name, part in zip(names, parts, strict=True)
    ]
    return labels if len(set(labels)) == len(labels) else list(names)
