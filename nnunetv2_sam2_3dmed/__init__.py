"""SAM2-3dMed and prompted SAM 2 inside nnU-Net v2."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.evaluation.compare import compare
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
    from nnunetv2_sam2_3dmed.video import VideoSession

__all__ = ["InteractiveSession", "SAM2_3dMed", "VideoSession", "__version__", "compare"]

try:
    __version__ = version("nnunetv2-sam2-3dmed")
except PackageNotFoundError:  # a copy of the sources that is not installed
    __version__ = "0+unknown"

# imported when they are first asked for, so that `sam2_3dmed env` and `-h` do not wait for torch
_HOMES = {
    "InteractiveSession": "interactive",
    "VideoSession": "video",
    "SAM2_3dMed": "network.sam2_3dmed",
    "compare": "evaluation.compare",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names and what is imported already."""
    return sorted({*globals(), *__all__})
