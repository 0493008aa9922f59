"""Labels of a dataset that is merged from several: classes of one name are one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunetv2_sam2_3dmed.nnunet.dataset_labels import (
    BACKGROUND,
    IGNORE,
    ORDER,
    expected_values,
    foreground_names,
    written_values,
)


@dataclass(frozen=True)
class MergedLabels:
    """Labels of the merged dataset, and how those of its sources become them.

    Attributes:
        declared: ``labels`` of dataset.json.
        order: ``regions_class_order``; None without regions.
        numbers: of each source, from its values to the merged ones.
    """

    declared: dict[str, int | list[int]]
    order: list[int] | None
    numbers: list[dict[int, int]]


def merge_labels(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> MergedLabels:
    """Merge labels by the names of classes.

    A value that is a class by itself is the same value wherever that class is; other values, which are only parts of
    regions, stay apart. A region of several sources is made of the values of all.

    Args:
        sources: name and dataset.json, with checked labels, of each dataset.
    """
    known: dict[str, int] = {}
    classes: dict[str, list[int]] = {}
    order: dict[str, int] = {}
    numbers: list[dict[int, int]] = []
    for source, content in sources:
        named = foreground_names(content)
        alone = {values[0]: name for name, values in named.items() if len(values) == 1}
        own = {0: 0}
        for value in expected_values(content):
            if value not in (0, content["labels"].get(IGNORE)):
                own[value] = known.setdefault(alone.get(value, f"{source} {value}"), len(known) + 1)
        for (name, values), written in zip(named.items(), _written(content, named), strict=True):
            known_values = classes.setdefault(name, [])
            known_values += [own[value] for value in values if own[value] not in known_values]
            order.setdefault(name, own[written])
        numbers.append(own)
    declared: dict[str, int | list[int]] = {BACKGROUND: 0}
    declared |= {name: values[0] if len(values) == 1 else sorted(values) for name, values in classes.items()}
    ignored = [content["labels"].get(IGNORE) for _, content in sources]
    if any(value is not None for value in ignored):
        declared[IGNORE] = len(known) + 1
        for own, value in zip(numbers, ignored, strict=True):
            if value is not None:
                own[value] = len(known) + 1
    regions = any(len(values) > 1 for values in classes.values())
    return MergedLabels(declared, list(order.values()) if regions else None, numbers)


def _written(content: Mapping[str, Any], named: Mapping[str, Sequence[int]]) -> list[int]:
    """Return the value that each class is written as, in the order of ``named``."""
    return written_values(content) if content.get(ORDER) else [values[0] for values in named.values()]
