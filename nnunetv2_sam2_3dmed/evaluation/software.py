"""Versions and machine that a comparison was computed with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("nnunetv2-sam2-3dmed", "nnunetv2", "surface-distance", "numpy", "scipy")


def software_and_machine() -> dict[str, Any]:
    """The versions of Python and the packages that the numbers depend on, the platform and the CPU count."""
    return {
        "versions": {**{name: _version(name) for name in PACKAGES}, "python": platform.python_version()},
        "machine": {"platform": platform.platform(), "cpu_count": os.cpu_count()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "not installed"
