"""Labels and regions declared in dataset.json, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError

BACKGROUND, IGNORE, ORDER = "background", "ignore", "regions_class_order"
NONZERO_OUTSIDE = -1  # nnU-Net's value in preprocessed segmentations for voxels outside the body


def check_labels(dataset: str, dataset_json: Mapping[str, Any]) -> None:
    """Refuse labels that nnU-Net cannot train: it needs 0 to K without a gap, but verifies this only on request.

    Args:
        dataset: dataset name, for messages.
        dataset_json: content of dataset.json.

    Raises:
        UserError: the labels are refused by :func:`check_declared_labels`, a number is left out or has two names, or
            the ignore label is not the highest.
    """
    where = f"dataset.json of {dataset}"
    check_declared_labels(where, dataset_json)
    labels = dataset_json["labels"]
    _check_numbers(where, labels, _has_regions(labels))


def check_declared_labels(where: str, dataset_json: Any) -> None:
    """Refuse labels that cannot be read; those with gaps can be read, but not trained (:func:`check_labels`).

    Args:
        where: the file or its description, for messages.
        dataset_json: content of dataset.json.

    Raises:
        UserError: labels are missing or not integers, the background is not 0, there is no foreground, or the order of
            regions does not fit.
    """
    labels = dataset_json.get("labels") if isinstance(dataset_json, Mapping) else None
    if not isinstance(labels, Mapping) or not labels:
        raise UserError(
            f'{where} has the labels {labels!r}, expected names with numbers such as {{"background": 0, "liver": 1}}: '
            "correct it."
        )
    for name, value in labels.items():
        _check_value(where, name, value)
    if BACKGROUND not in labels or labels[BACKGROUND] != 0:
        said = f"is {labels[BACKGROUND]!r}" if BACKGROUND in labels else "is missing"
        raise UserError(f"the label `background` {said} in {where}, but must be 0: correct it.")
    if not foreground_names(dataset_json):
        raise UserError(f"{where} has no label but the background, so that there is nothing to segment: add one.")
    if _has_regions(labels):
        _check_order(where, dataset_json.get(ORDER), labels)


def expected_values(dataset_json: Mapping[str, Any]) -> list[int]:
    """Return the values that a raw segmentation may hold, including the ignore label, sorted; needs checked labels."""
    return sorted({number for value in dataset_json["labels"].values() for number in _numbers(value)})


def foreground_names(dataset_json: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the values of each class or region, without background and ignore label; needs checked labels."""
    named = {name: _numbers(value) for name, value in dataset_json["labels"].items() if name != IGNORE}
    return {name: values for name, values in named.items() if set(values) != {0}}


def written_values(dataset_json: Mapping[str, Any]) -> list[int]:
    """Return the value that each class is written as; for regions ``regions_class_order``; needs checked labels."""
    order = dataset_json.get(ORDER)
    return [int(value) for value in order] if order else sorted({v[0] for v in foreground_names(dataset_json).values()})


def _has_regions(labels: Mapping[str, Any]) -> bool:
    return any(len(_numbers(value)) > 1 for value in labels.values())


def _numbers(value: Any) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_value(where: str, name: str, value: Any) -> None:
    numbers = _numbers(value)
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        raise UserError(
            f"the label {name!r} is {value!r} in {where}, expected an integer from 0, or for a region a list of such: "
            "correct it."
        )
    if name == IGNORE and isinstance(value, (list, tuple)):
        raise UserError(f"the ignore label is the region {value!r} in {where}, but must be one number: correct it.")


def _check_numbers(where: str, labels: Mapping[str, Any], has_regions: bool) -> None:
    """Refuse numbers that are not 0 to K, an ignore label that is not the highest, and numbers with two names."""
    named = {name: _numbers(value) for name, value in labels.items() if name != IGNORE}
    declared = sorted({number for numbers in named.values() for number in numbers})
    gaps = sorted(set(range(declared[-1])) - set(declared))
    if gaps:
        listed = ", ".join(map(str, declared))
        raise UserError(
            f"the labels {listed} in {where} leave out {', '.join(map(str, gaps[:5]))}, but nnU-Net needs 0 to "
            f"{len(declared) - 1} without a gap: renumber them, in labelsTr too, and preprocess again."
        )
    if not has_regions:
        names: dict[int, str] = {}
        for name, numbers in named.items():
            if numbers[0] in names:
                raise UserError(
                    f"the labels {names[numbers[0]]!r} and {name!r} are both {numbers[0]} in {where}: give each its "
                    "own number."
                )
            names[numbers[0]] = name
    if IGNORE in labels and labels[IGNORE] != declared[-1] + 1:
        raise UserError(
            f"the ignore label is {labels[IGNORE]} in {where}, but must be the highest, {declared[-1] + 1}: renumber "
            "it, in labelsTr too, and preprocess again."
        )


def _check_order(where: str, order: Any, labels: Mapping[str, Any]) -> None:
    regions = foreground_names({"labels": labels})
    known = {number for numbers in regions.values() for number in numbers}
    if not isinstance(order, (list, tuple)) or len(order) != len(regions):
        raise UserError(
            f"{ORDER} is {order!r} in {where}, expected a list of {len(regions)} labels, one for each region "
            f"({', '.join(regions)}), the value that each is written as: correct it."
        )
    strange = [value for value in order if type(value) is not int or value not in known]
    if strange:
        raise UserError(
            f"{ORDER} has {strange[0]!r} in {where}, expected labels of the regions, which are "
            f"{', '.join(map(str, sorted(known)))}: correct it."
        )
