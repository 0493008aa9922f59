"""YAML files that users write, checked key by key."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from nnunetv2_sam2_3dmed.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key given twice, of which PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> Any:
    """Read a file of plain values.

    Raises:
        UserError: there is no such file, or it is no YAML.
    """
    try:
        # a SafeLoader, which makes nothing but plain values; of bytes, it knows UTF-16 by its byte order mark
        return yaml.load(file.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise UserError(f"there is no file {file} ({error.strerror}): give an experiment's YAML file.") from None
    except (yaml.YAMLError, ValueError) as error:  # also of dates that are none
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from None


def check_name(name: Any) -> str:
    """Return a name that can be that of a file or folder.

    Raises:
        UserError: it cannot.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UserError(f"name is {name!r}, expected letters, digits, '_', '-' and '.': it becomes a folder's name.")
    return name


def check_keys(content: Any, known: Sequence[str], required: Sequence[str], where: str) -> None:
    """Check the keys of a mapping.

    Raises:
        UserError: it is no mapping, or a key is not known or missing.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where} holds {content!r}, expected the keys {', '.join(known)}.")
    for key in content:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it."
            raise UserError(f"{where} has the key {key!r}, expected {', '.join(known)}: {hint}")
    for key in required:
        if content.get(key) is None:
            raise UserError(f"{where} has no {key}, expected {', '.join(required)}: add it.")


def list_of(content: dict[str, Any], key: str, kind: type | tuple[type, ...], expected: str) -> list[Any]:
    """Return the list of a key.

    Raises:
        UserError: it is no list, is empty, or has other values than of ``kind``.
    """
    values = content[key]
    good = isinstance(values, list) and values and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not good:
        raise UserError(f"{key} is {values!r}, expected a list of {expected}: correct it.")
    return values


def refuse_twice(what: str, values: Sequence[Any]) -> None:
    """Refuse a list that has a value twice.

    Raises:
        UserError: it has.
    """
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{value} is in {what} twice, expected each once: remove one.")
