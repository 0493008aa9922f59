"""The networks, in plain PyTorch and ``sam2``; nothing here knows of nnU-Net.

``sam2_3dmed`` is the automatic network; ``mask_propagation`` its memory over slices, with ``memory_rules`` and
``self_sorting`` for the choice of memories; ``srpp`` and ``boundary`` the paper's auxiliary tasks; ``slice_encoder``
the image encoder; ``promptable_sam2`` the network with prompts, and ``prompt_step`` its step on a slice;
``checkpoints`` and ``weights`` SAM 2's checkpoint files. Names are imported on first use, since they import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "SAM2_3dMed": "sam2_3dmed",
    "TrainingOutput": "sam2_3dmed",
    "MaskPropagation": "mask_propagation",
    "MemoryRule": "memory_rules",
    "FirstAndLatest": "memory_rules",
    "SelfSorting": "self_sorting",
    "load_sam2_weights": "weights",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
