"""Resizing between slices and SAM 2's square images, the same in training and in sessions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.slice_encoder import IMAGENET_MEAN, IMAGENET_STD

LARGEST_LOGIT = 32.0  # to which SAM 2's predictor clamps the previous mask that new points correct


def as_images(grey: torch.Tensor, image_size: int) -> torch.Tensor:
    """Convert grey levels (..., H, W), 0 to 1, to images (..., 3, S, S) for the image encoder."""
    return colours_as_images(grey.flatten(0, -3)[:, None], image_size).unflatten(0, grey.shape[:-2])


def colours_as_images(planes: torch.Tensor, image_size: int) -> torch.Tensor:
    """Convert grey levels (n, 1, H, W) or colours (n, 3, H, W), 0 to 1, to images (n, 3, S, S) for the encoder."""
    planes = resized(planes, (image_size, image_size)).expand(-1, 3, -1, -1)
    # by numbers: a tensor of them would be copied to a GPU, which waits for its queued work
    channels = [(planes[:, k] - mean) / std for k, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD))]
    return torch.stack(channels, dim=1)


def at_image_size(masks: torch.Tensor, image_size: int) -> torch.Tensor:
    """Resize masks (n, H, W), bool, to (n, 1, S, S), float, 0 or 1, as ``SAM2VideoPredictor.add_new_mask`` does."""
    return (resized(masks[:, None].float(), (image_size, image_size)) >= 0.5).float()


def logits_at(logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Resize logits (n, M, s, s) to (n, M, rows, columns), float, as SAM 2's predictors do."""
    if logits.shape[-2:] == shape:
        return logits.float()
    return F.interpolate(logits.float(), size=shape, mode="bilinear", align_corners=False)


def resized(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize planes (n, C, H, W), float, to ``size``; smaller with antialiasing, as SAM 2's predictors do."""
    if planes.shape[-2:] == size:
        return planes
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
