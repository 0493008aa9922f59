"""The classes of a dataset: nnU-Net's labels, or its regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_declared_labels


def foreground_classes(dataset_json: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The name of every foreground class, or region, with the label values it consists of.

    Args:
        dataset_json: the content of nnU-Net's ``dataset.json``.
    """
    manager = _label_manager(dataset_json)
    names = {_values(value): name for name, value in dataset_json["labels"].items()}
    classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    return {names[_values(c)]: _values(c) for c in classes}


def ignore_label(dataset_json: Mapping[str, Any]) -> int | None:
    """The label value of voxels without annotation, or None if the dataset has none."""
    return _label_manager(dataset_json).ignore_label


def _label_manager(dataset_json: Mapping[str, Any]) -> LabelManager:
    check_declared_labels("dataset.json", dataset_json)
    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def _values(label_or_region: Any) -> tuple[int, ...]:
    if isinstance(label_or_region, (tuple, list)):
        return tuple(int(v) for v in label_or_region)
    return (int(label_or_region),)
