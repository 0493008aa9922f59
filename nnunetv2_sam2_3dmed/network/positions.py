"""SAM 2's positional encoding of the places in a slice, made once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnunetv2_sam2_3dmed.network.sam2_modules import PositionEmbeddingSine


class GridEncoding(PositionEmbeddingSine):
    """``sam2``'s sine encoding for square grids of known sides.

    SAM 2 computes a table for each image of a batch, and its cache keeps the whole batch's in memory. Here there is one
    table for each grid, a buffer that moves with the network, and a batch gets views of it.

    Args:
        *args: those of ``PositionEmbeddingSine``.
        grids: sides of the grids.
        **kwargs: those of ``PositionEmbeddingSine``.
    """

    def __init__(self, *args, grids: Sequence[int], **kwargs):
        super().__init__(*args, warmup_cache=False, **kwargs)
        for side in grids:
            self.register_buffer(f"grid{side}", self._pe(1, torch.device("cpu"), side, side), persistent=False)
        self.cache.clear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The encoding (B, C, H, W), in the precision of features ``x`` of that shape; no memory of its own."""
        return self.get_buffer(f"grid{x.shape[-1]}").to(x.dtype).expand(len(x), -1, -1, -1)
