"""Training within nnU-Net: the paper's recipe and its variants.

``trainer`` has the recipe, ``ablations`` and ``variants`` subclasses of it; ``losses``, ``targets`` and
``augmentation`` are its parts; ``checked`` and ``checks`` refuse data, losses and plans that cannot be trained;
``budget`` trains for a stated time; ``memory`` estimates what a step needs. Names are imported on first use, since
they import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "SAM2_3dMedTrainer": "trainer",
    "SAM2_3dMedLoss": "losses",
    "TargetMaker": "targets",
    "WallClockBudget": "budget",
    "CosineSchedule": "schedule",
    "TrainingStep": "memory",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
