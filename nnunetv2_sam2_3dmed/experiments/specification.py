"""The experiment's YAML file, checked before anything else is read."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from nnunetv2_sam2_3dmed.errors import UserError

KEYS = ("name", "datasets", "folds", "seeds", "methods", "reference")
REQUIRED = ("name", "datasets", "folds", "methods")
METHOD_KEYS = ("trainer", "configuration", "plans", "name")
METHOD_REQUIRED = ("trainer", "configuration")
LARGEST_SEED = 2**32 - 1  # numpy's


@dataclass(frozen=True)
class Method:
    """A trainer on a configuration of a dataset's plans, as nnU-Net names them."""

    trainer: str
    configuration: str
    plans: str = "nnUNetPlans"
    name: str = ""

    @property
    def key(self) -> str:
        """Name of the method's folder in a dataset's results, ``TRAINER__PLANS__CONFIG``."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @property
    def title(self) -> str:
        """Name in messages, the live display and the spread over seeds; comparisons use :attr:`key`."""
        return self.name or self.key

    def seeded(self, seed: int | None) -> Method:
        """Return the same method with the trainer that starts from ``seed``; itself for None."""
        return self if seed is None else Method(f"{self.trainer}_seed{seed}", self.configuration, self.plans, self.name)


@dataclass(frozen=True)
class Specification:
    """Content of the YAML file.

    Attributes:
        name: for file and folder names.
        datasets: numbers or names.
        folds: nnU-Net's folds.
        methods: to compare.
        seeds: each method is trained once per seed; empty: once, without a seed.
        reference: method that the paired tests compare the others with; None: the first.
    """

    name: str
    datasets: tuple[str, ...]
    folds: tuple[int, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = ()
    reference: Method | None = None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key given twice, of which PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_specification(file: Path) -> Specification:
    """Read and check the file.

    Raises:
        UserError: there is no such file, it is no YAML, or an entry is missing, unknown or given twice.
    """
    try:
        # a SafeLoader, which makes nothing but plain values; of bytes, it knows UTF-16 by its byte order mark
        content = yaml.load(file.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise UserError(f"there is no file {file} ({error.strerror}): give an experiment's YAML file.") from None
    except (yaml.YAMLError, ValueError) as error:  # also of dates that are none
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from None
    _check_keys(content, KEYS, REQUIRED, str(file))
    name = content["name"]
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UserError(f"name is {name!r}, expected letters, digits, '_', '-' and '.': it becomes a folder's name.")
    datasets = [str(d) for d in _list(content, "datasets", (int, str), "dataset numbers or names")]
    methods = [_method(entry, number) for number, entry in enumerate(_list(content, "methods", dict, "methods"), 1)]
    _refuse_twice("methods", [m.key for m in methods])
    _refuse_twice("methods", [m.title for m in methods])
    seeds = _list(content, "seeds", int, "seeds such as 0, 1, 2") if content.get("seeds") is not None else []
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"the seed {seed} is out of range, expected 0 to {LARGEST_SEED}: change seeds.")
    folds = _list(content, "folds", int, "fold numbers such as 0, 1, 2 (on the fold 'all' nothing is held out)")
    for what, values in (("datasets", datasets), ("seeds", seeds), ("folds", folds)):
        _refuse_twice(what, values)
    reference = _reference(content.get("reference"), methods)
    return Specification(name, tuple(datasets), tuple(folds), tuple(methods), tuple(seeds), reference)


def _method(entry: dict[str, Any], number: int) -> Method:
    _check_keys(entry, METHOD_KEYS, METHOD_REQUIRED, f"method {number}")
    for key, value in entry.items():
        # nnU-Net takes the results folder's name apart at "__"
        valid = isinstance(value, str) and bool(value.strip())
        if key != "name":
            valid = valid and bool(re.fullmatch(r"\w[\w.-]*", value, re.ASCII)) and "__" not in value
        if not valid:
            raise UserError(f"{key} of method {number} is {value!r}, expected a name as nnU-Net uses it: correct it.")
    return Method(**entry)


def _reference(value: Any, methods: Sequence[Method]) -> Method | None:
    if value is None:
        return None
    for method in methods:
        if value in (method.key, method.title):
            return method
    raise UserError(f"reference is {value!r}, expected one of the methods: {', '.join(m.key for m in methods)}.")


def _check_keys(content: Any, known: Sequence[str], required: Sequence[str], where: str) -> None:
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


def _list(content: dict[str, Any], key: str, kind: type | tuple[type, ...], expected: str) -> list[Any]:
    values = content[key]
    good = isinstance(values, list) and values and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not good:
        raise UserError(f"{key} is {values!r}, expected a list of {expected}: correct it.")
    return values


def _refuse_twice(what: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{value} is in {what} twice, expected each once: remove one.")
