"""SRPP, slice relative position prediction (paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import nn


class SliceMemory(nn.Module):
    """Each slice's descriptor looks back at those of the slices before it (the paper's Table 9 variant).

    Args:
        channels: C.
        num_heads: attention heads.
    """

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(B, D, C) -> (B, D, C)."""
        depth = descriptors.shape[1]
        future = torch.ones(depth, depth, dtype=torch.bool, device=descriptors.device).triu(1)
        past, _ = self.attention(descriptors, descriptors, descriptors, attn_mask=future, need_weights=False)
        return self.norm(descriptors + past)


class SliceRelativePositionPredictor(nn.Module):
    """Predicts by how many slices any two slices of a stack lie apart.

    A transformer encoder over the D slice descriptors (the mean over each slice's stride-16 features), then
    an MLP on each ordered pair. The descriptors carry no positional encoding along D: with one the task would
    be trivial. The prediction is therefore equivariant to the order of the slices.

    Args:
        channels: C of the encoder's features.
        num_layers: transformer layers.
        num_heads: attention heads.
        memory: put a memory between encoder and predictor (Table 9; the paper is better without).
    """

    def __init__(self, channels: int = 256, num_layers: int = 2, num_heads: int = 8, memory: bool = False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            channels, num_heads, dim_feedforward=2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(channels), enable_nested_tensor=False)
        self.memory = SliceMemory(channels, num_heads) if memory else nn.Identity()
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, channels)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 1))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Predicts offsets.

        Args:
            embedding: (B, D, C, H', W'), the encoder's stride-16 features (the paper's Z).

        Returns:
            (B, D, D); entry (i, j) estimates j - i in slices.
        """
        descriptors = embedding.mean(dim=(-2, -1))  # (B, D, C)
        encoded = self.memory(self.encoder(descriptors))
        # a linear layer on the pair [h_i, h_j] is the sum of one on each
        pairs = self.first(encoded)[:, :, None] + self.second(encoded)[:, None, :]  # (B, D, D, C)
        return self.head(pairs).squeeze(-1).float()
