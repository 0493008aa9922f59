"""Operations of a network on one patch, and which of them a network that remembers slices does not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures, SliceCache


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Count from the shapes of queries, keys and values."""
    return sdpa_flop_count(query, key, value)


# for FlopCounterMode: older versions of torch count this kernel as nothing
KERNELS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


@dataclass(frozen=True)
class Operations:
    """Operations of one forward pass on one patch; a multiplication and an addition are two.

    Attributes:
        patch: all of them.
        encoding: those of them that encode the patch's slices, each by itself, in a network that keeps the features
            of slices it has seen; None in any other network.
        slices: of the patch, along its first axis.
    """

    patch: int
    encoding: int | None
    slices: int

    def of_volume(self, windows: int, mirrorings: int, encoded_slices: int) -> float:
        """Operations to predict a volume.

        Args:
            windows: of the sliding window over it.
            mirrorings: forward passes per window.
            encoded_slices: different slices in all of these passes: one in another place in the plane, or
                mirrored in the plane, is another slice.
        """
        encoding = self.encoding or 0
        repeated = (self.patch - encoding) * windows * mirrorings
        return repeated + encoding / self.slices * encoded_slices


def count_operations(network: nn.Module, shape: Sequence[int]) -> Operations:
    """Count matrix products, convolutions and attention, as torch counts them.

    Nothing is computed: the tensors are fake, so that the largest network needs neither time nor memory.

    Args:
        network: in eval mode.
        shape: of a batch of one patch, (1, C, D, H, W) or (1, C, H, W).
    """
    cache = getattr(network, "slice_cache", None)
    remembers = isinstance(cache, SliceCache)
    # a network that remembers slices does so in inference mode only
    mode = torch.inference_mode() if remembers else torch.no_grad()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mode,
        FlopCounterMode(display=False, custom_mapping=KERNELS) as counter,
    ):
        encoding = _CountedEncoding(counter)
        try:
            if remembers:
                network.slice_cache = encoding  # type: ignore[assignment]
            network(torch.zeros(*shape))
        finally:
            if remembers:
                network.slice_cache = cache  # type: ignore[assignment]
    return Operations(int(counter.get_total_flops()), encoding.flop if remembers else None, int(shape[2]))


class _CountedEncoding:
    """Replacement of a network's slice cache that stores nothing and counts the operations of encoding."""

    def __init__(self, counter: FlopCounterMode):
        self.flop = 0
        self._counter = counter

    def encode(
        self,
        slices: torch.Tensor,
        encoder: Callable[[torch.Tensor], LevelFeatures],
        weights: Iterable[torch.Tensor],
    ) -> LevelFeatures:
        before = self._counter.get_total_flops()
        features = encoder(slices)
        self.flop += int(self._counter.get_total_flops() - before)
        return features
