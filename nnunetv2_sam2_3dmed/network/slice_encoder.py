"""From nnU-Net's patches to SAM 2's image features, slice by slice."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.network.checkpointing import recomputed, recomputed_parts
from nnunetv2_sam2_3dmed.network.fresh_trunk import fit_windows, initialise_positions
from nnunetv2_sam2_3dmed.network.low_rank import add_low_rank_updates
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, ImageEncoder

# what SAM 2's image encoder was trained on
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# pixels that are encoded in one batch: what a GPU has memory for, and what suits a CPU's caches
ENCODED_PIXELS = {"cuda": 16 * 512 * 512, "cpu": 4 * 512 * 512}


def slices_at_once(device: torch.device, image_size: int) -> int:
    """Slices to encode in one batch on a device."""
    return max(1, ENCODED_PIXELS.get(device.type, ENCODED_PIXELS["cpu"]) // image_size**2)


class SliceFeatures(NamedTuple):
    """Features of a batch of stacks, B stacks of D slices, for images of S x S pixels.

    Attributes:
        stride4: (B, D, C, S/4, S/4), the finest level of the feature pyramid.
        stride8: (B, D, C, S/8, S/8).
        stride16: (B, D, C, S/16, S/16), the paper's Z.
        position: (1, C, S/16, S/16), the sine encoding of the places in ``stride16``.
    """

    stride4: torch.Tensor
    stride8: torch.Tensor
    stride16: torch.Tensor
    position: torch.Tensor


class InputAdapter(nn.Module):
    """Convert normalised voxels to the images that SAM 2's encoder expects.

    Intensities are clipped to a fixed range and scaled to [0, 1]; one channel is repeated, three are taken
    as they are, any other number goes through a learned 1x1 convolution that starts as the mean; then come
    ImageNet's mean and standard deviation, and the in-plane resize.

    Args:
        input_channels: C.
        image_size: S.
        intensity_range: the two normalised intensities that become 0 and 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, input_channels: int, image_size: int, intensity_range: tuple[float, float]):
        super().__init__()
        low, high = intensity_range
        if not low < high:
            raise ValueError(f"intensity_range is {intensity_range}, but its first value must be the smaller one.")
        self.low, self.high = float(low), float(high)
        self.image_size = image_size
        self.mix: nn.Module = nn.Identity()
        if input_channels not in (1, 3):
            mix = nn.Conv2d(input_channels, 3, kernel_size=1, bias=False)
            nn.init.constant_(mix.weight, 1 / input_channels)
            self.mix = mix
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> (B * D, 3, S, S)."""
        slices = patches.transpose(1, 2).flatten(0, 1).float()  # (B * D, C, H, W)
        slices = (slices.clamp(self.low, self.high) - self.low) / (self.high - self.low)
        images = self.mix(slices)
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False)
        return (images - self.mean) / self.std  # one channel becomes three here


class SliceEncoder(nn.Module):
    """SAM 2's image encoder, Hiera trunk and feature pyramid neck, over all slices at once.

    Args:
        image_encoder: ``SAM2Base.image_encoder``.
        adapter: what makes images of the patches.
        freeze_trunk: keep the trunk as it is (paper, appendix B); the neck always trains, because it is what the
            segmentation branch shares with the auxiliary tasks.
        lora_rank: rank of trained updates of the trunk's attention layers, frozen or not; 0 for none.
        fitted_windows: attention windows are never larger than the image (SAM 2 pads the image instead).
        checkpointing: of a trunk that trains, keep only its input, and compute the rest a second time in backward.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        adapter: InputAdapter,
        freeze_trunk: bool,
        lora_rank: int = 0,
        fitted_windows: bool = False,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.adapter = adapter
        self.checkpointing = checkpointing
        self.trunk = image_encoder.trunk
        self.neck = image_encoder.neck
        self.scalp = image_encoder.scalp
        initialise_positions(self.trunk)
        if fitted_windows:
            fit_windows(self.trunk, adapter.image_size)
        if freeze_trunk:
            self.trunk.requires_grad_(False)
        if lora_rank:
            add_low_rank_updates(self.trunk, lora_rank)
        self.trunk_trains = not freeze_trunk or lora_rank > 0

    def forward(self, patches: torch.Tensor) -> SliceFeatures:
        """(B, C, D, H, W) -> features of B stacks of D slices."""
        images = self.adapter(patches)
        # with several input channels the learned mix lies in front of the trunk, and its gradient must pass
        needs_gradient = torch.is_grad_enabled() and (images.requires_grad or self.trunk_trains)
        with torch.set_grad_enabled(needs_gradient):
            pyramid = self._pyramid(images)
        features, positions = self.neck(pyramid)
        features, positions = features[: -self.scalp], positions[: -self.scalp]
        stacked = [f.unflatten(0, (patches.shape[0], patches.shape[2])) for f in features]
        return SliceFeatures(stacked[0], stacked[1], stacked[2], positions[2][:1])

    def _pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the trunk's four levels; some slices at a time where its activations are not kept."""
        if not torch.is_grad_enabled():
            parts = [self.trunk(part) for part in images.split(slices_at_once(images.device, images.shape[-1]))]
        elif self.checkpointing:
            tokens = (images.shape[-1] // STRIDE) ** 2
            parts = [recomputed(partial(self.trunk, part), part, tokens) for part in recomputed_parts(images)]
        else:
            parts = [self.trunk(images)]
        return parts[0] if len(parts) == 1 else [torch.cat(level) for level in zip(*parts, strict=True)]

    def position(self, stride16: torch.Tensor) -> torch.Tensor:
        """The encoding (1, C, S/16, S/16) of the places in features (N, C, S/16, S/16), as ``forward`` gives it."""
        return self.neck.position_encoding(stride16[:1]).to(stride16.dtype)
