"""Low-rank updates of frozen linear layers (LoRA, Hu et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_modules import Hiera


class LowRankLinear(nn.Linear):
    """A frozen linear layer plus a trained update of low rank: W x + b + U (V x).

    The frozen tensors keep the names ``weight`` and ``bias``, so that checkpoints fit with and without the
    update. U starts at zero: the layer begins as what it was.

    Args:
        frozen: the layer to update; its tensors are taken over.
        rank: of the update.
    """

    def __init__(self, frozen: nn.Linear, rank: int):
        super().__init__(frozen.in_features, frozen.out_features, frozen.bias is not None, device="meta")
        self.weight = frozen.weight
        self.bias = frozen.bias
        self.lora_down = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.lora_up = nn.Parameter(torch.zeros(frozen.out_features, rank))
        nn.init.normal_(self.lora_down, std=frozen.in_features**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up)


def add_low_rank_updates(trunk: Hiera, rank: int) -> None:
    """Add updates of ``rank`` to a Hiera trunk's attention layers (queries, keys, values and output)."""
    for block in trunk.blocks:
        block.attn.qkv = LowRankLinear(block.attn.qkv, rank)
        block.attn.proj = LowRankLinear(block.attn.proj, rank)
