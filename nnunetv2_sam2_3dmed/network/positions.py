"""SAM 2's positional encodings as buffers: sines for the places in a slice, and rotary attention in real numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.sam2_modules import PositionEmbeddingSine, RoPEAttention, compute_axial_cis


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


class RotaryAttention(RoPEAttention):
    """``sam2``'s ``RoPEAttention``, with the same parameters and, bit for bit in float32, the same results.

    Three things differ. SAM 2 multiplies complex numbers, for which torch.compile generates no code; here the rotation
    is two real products. SAM 2's constructor moves its table to the first GPU whatever the device of the network; here
    it is a buffer, and moves with the network. And the table of all keys is broadcast instead of repeated.

    Args:
        *args: those of ``Attention``.
        rope_theta: base of the wavelengths.
        rope_k_repeat: there may be several grids of keys, each rotated as the grid of queries.
        feat_sizes: width and height of the grid of queries.
        **kwargs: those of ``Attention``.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(
        self,
        *args,
        rope_theta: float = 10000.0,
        rope_k_repeat: bool = False,
        feat_sizes: Sequence[int] = (64, 64),
        **kwargs,
    ):
        # not RoPEAttention's own constructor, which makes the complex table on the first GPU
        super(RoPEAttention, self).__init__(*args, **kwargs)
        self.rope_k_repeat = rope_k_repeat
        width, height = feat_sizes
        table = compute_axial_cis(self.internal_dim // self.num_heads, width, height, rope_theta)
        # (tokens, C): each angle once for both numbers of a pair, the first of which loses what the second gains
        cos, sin = table.real, table.imag
        self.register_buffer("cos", torch.stack([cos, cos], dim=-1).flatten(1), persistent=False)
        self.register_buffer("sin", torch.stack([-sin, sin], dim=-1).flatten(1), persistent=False)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_k_exclude_rope: int = 0) -> torch.Tensor:
        """Attends.

        Args:
            q: (B, N, C), the tokens of one grid.
            k: (B, R * N + P, C'), those of R grids, then P tokens that are not rotated.
            v: like ``k``.
            num_k_exclude_rope: P.

        Returns:
            (B, N, C).
        """
        q, k, v = (
            self._separate_heads(project(x), self.num_heads)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        q = self._rotated(q[:, :, None]).flatten(2, 3)
        if num_k_exclude_rope:
            rotary = k.shape[2] - num_k_exclude_rope
            places, pointers = k.split([rotary, num_k_exclude_rope], dim=2)
            k = torch.cat([self._rotated(self._grids(places)).flatten(2, 3), pointers], dim=2)
        else:
            k = self._rotated(self._grids(k)).flatten(2, 3)
        dropout = self.dropout_p if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(self._recombine_heads(attended))

    def _grids(self, keys: torch.Tensor) -> torch.Tensor:
        """(B, heads, R * N, C) -> (B, heads, R, N, C)."""
        return keys.unflatten(2, (-1, self.cos.shape[0]))

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads, R, N, C), each pair of numbers turned by its place's angle; computed in float32, as SAM 2 does."""
        numbers = x.float()
        swapped = numbers.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return (numbers * self.cos + swapped * self.sin).to(x.dtype)
