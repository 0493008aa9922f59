"""BD fusion, the part of the boundary branch that the segmentation branch lacks (paper, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class BoundaryFusion(nn.Module):
    """Boundary features query the encoder's (equations 3 and 4; the residual of 4 as read from a garbled text).

    Z' = softmax(Q(Z_bd) K(Z)^T / sqrt(C)) V(Z), over the places of one slice, and
    Z'' = MLP(LayerNorm(Z')) + Z'.

    Args:
        channels: C.
    """

    def __init__(self, channels: int = 256):
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, boundary: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Fuse one slice.

        Args:
            boundary: (B, C, H', W'), the paper's Z_bd: features conditioned on the memory of boundaries.
            embedding: (B, C, H', W'), the paper's Z: the encoder's features.

        Returns:
            (B, C, H', W'), the paper's Z''.
        """
        queries = self.query(boundary.flatten(2).transpose(1, 2))  # (B, H'W', C)
        tokens = embedding.flatten(2).transpose(1, 2)
        keys, values = self.key(tokens), self.value(tokens)
        # with an axis of heads, here one: torch has fused kernels for four axes only
        fused = F.scaled_dot_product_attention(queries[:, None], keys[:, None], values[:, None])[:, 0]
        fused = self.mlp(self.norm(fused)) + fused
        return fused.transpose(1, 2).reshape_as(embedding)
