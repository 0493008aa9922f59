"""SRPP, slice relative position prediction (paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import nn


class SRPPMemory(nn.Module):
    """Memory attention between slice descriptors (the paper's Table 9, appendix E.3).

    Built as SAM 2's memory: a projection to fewer channels stores each descriptor, and a residual cross attention
    followed by a residual MLP reads them, both with normalised inputs. Each slice reads the memories of all other
    slices of the stack, and neither memories nor slices carry a position.

    The paper speaks of "historical context", which suggests that a slice reads the slices before it only. That would
    give the answer away: a slice that can read i memories can count them, and the loss then falls without any use of
    the images. Reading all other slices keeps SRPP equivariant to the order of the slices.

    Args:
        channels: C.
        num_heads: attention heads.
        memory_channels: channels of a memory; None for C / 4, as in SAM 2 (64 of 256).
    """

    def __init__(self, channels: int, num_heads: int, memory_channels: int | None = None):
        super().__init__()
        width = channels // 4 if memory_channels is None else memory_channels
        self.memory_encoder = nn.Linear(channels, width)
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, kdim=width, vdim=width, batch_first=True)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.norm = nn.LayerNorm(channels)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(B, D, C) -> (B, D, C), for D of at least 2."""
        memories = self.memory_encoder(descriptors)  # (B, D, C / 4)
        itself = torch.eye(descriptors.shape[1], dtype=torch.bool, device=descriptors.device)
        read, _ = self.attention(
            self.attention_norm(descriptors), memories, memories, attn_mask=itself, need_weights=False
        )
        descriptors = descriptors + read
        return self.norm(descriptors + self.mlp(self.mlp_norm(descriptors)))


class SliceRelativePositionPredictor(nn.Module):
    """Predictor of the signed distance, in slices, between any two slices of a stack.

    A transformer encoder over the D slice descriptors (the mean over each slice's stride-16 features), then
    an MLP on each ordered pair. The descriptors carry no positional encoding along D: with one the task would
    be trivial. The prediction is therefore equivariant to the order of the slices.

    Args:
        channels: C of the encoder's features.
        num_layers: transformer layers.
        num_heads: attention heads.
        memory: put a :class:`SRPPMemory` between encoder and predictor (Table 9; the paper's final model has none).
    """

    def __init__(self, channels: int = 256, num_layers: int = 2, num_heads: int = 8, memory: bool = False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            channels, num_heads, dim_feedforward=2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(channels), enable_nested_tensor=False)
        self.memory = SRPPMemory(channels, num_heads) if memory else nn.Identity()
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, channels)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 1))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Predict offsets.

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
