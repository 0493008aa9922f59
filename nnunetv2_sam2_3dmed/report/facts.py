"""With what a report was made: the facts at its head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.metrics import EMPTY_MASK_POLICY
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison
from nnunetv2_sam2_3dmed.report.methods import Method


def facts(
    comparison: Comparison,
    methods: Sequence[Method],
    folds: Sequence[str],
    used: Mapping[str, Any],
    now: datetime,
) -> list[tuple[str, str]]:
    """Name and value of each fact.

    Args:
        comparison: what was compared.
        methods: of it.
        folds: nnU-Net's, as the user named them.
        used: versions and machine, as ``software_and_machine`` states them.
        now: the date of the report.
    """
    of_folds = any(method.fold_folders for method in methods)
    classes = ", ".join(f"{name} ({' + '.join(map(str, values))})" for name, values in comparison.classes.items())
    found = [
        ("Dataset", comparison.dataset_name),
        ("Cases", str(len(comparison.cases))),
        ("Classes (label values)", classes),
        ("Folds", ", ".join(folds) if of_folds else "none: folders of predictions were given"),
        ("Methods", "; ".join(method.name for method in methods)),
        ("NSD tolerance", f"{comparison.tolerance_mm:g} mm ({comparison.tolerance_source})"),
        ("Empty masks", EMPTY_MASK_POLICY),
        # not the whole path: a report is shared, and what a machine's folders are called is nobody's business
        ("True segmentations", "/".join(Path(comparison.truth_folder).parts[-2:])),
        ("Date", now.strftime("%Y-%m-%d %H:%M")),
    ]
    if comparison.ignore_label is not None:
        found.insert(3, ("Ignore label", f"{comparison.ignore_label}; its voxels are left out of all masks"))
    found += [(title, _listed(used[key])) for key, title in _TITLES.items() if used.get(key)]
    trained = {method.label: training_hardware(method.fold_folders) for method in methods}
    if any(trained.values()):
        found.append(("Trained on", "; ".join(f"{label}: {on}" for label, on in trained.items() if on)))
    return found


_TITLES = {"versions": "Software", "machine": "Compared on"}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value is not None)


def training_hardware(fold_folders: Sequence[Path]) -> str:
    """The devices on which the folds were trained, as nnU-Net notes them in ``debug.json``; empty if it does not."""
    devices: list[str] = []
    for folder in fold_folders:
        try:
            notes = json.loads((folder / "debug.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        name = notes.get("gpu_name") if "cuda" in str(notes.get("device")) else notes.get("device")
        if name and str(name) not in devices:
            devices.append(str(name))
    return ", ".join(devices)
