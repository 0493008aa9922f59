"""The experiment's YAML file, checked before anything else is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.yaml_files import check_keys, check_name, list_of, read_yaml, refuse_twice

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


def read_specification(file: Path) -> Specification:
    """Read and check the file.

    Raises:
        UserError: there is no such file, it is no YAML, or an entry is missing, unknown or given twice.
    """
    content = read_yaml(file)
    check_keys(content, KEYS, REQUIRED, str(file))
    name = check_name(content["name"])
    datasets = [str(d) for d in list_of(content, "datasets", (int, str), "dataset numbers or names")]
    methods = [_method(entry, number) for number, entry in enumerate(list_of(content, "methods", dict, "methods"), 1)]
    refuse_twice("methods", [m.key for m in methods])
    refuse_twice("methods", [m.title for m in methods])
    seeds = list_of(content, "seeds", int, "seeds such as 0, 1, 2") if content.get("seeds") is not None else []
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"the seed {seed} is out of range, expected 0 to {LARGEST_SEED}: change seeds.")
    folds = list_of(content, "folds", int, "fold numbers such as 0, 1, 2 (on the fold 'all' nothing is held out)")
    for what, values in (("datasets", datasets), ("seeds", seeds), ("folds", folds)):
        refuse_twice(what, values)
    reference = _reference(content.get("reference"), methods)
    return Specification(name, tuple(datasets), tuple(folds), tuple(methods), tuple(seeds), reference)


def _method(entry: dict[str, Any], number: int) -> Method:
    check_keys(entry, METHOD_KEYS, METHOD_REQUIRED, f"method {number}")
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
