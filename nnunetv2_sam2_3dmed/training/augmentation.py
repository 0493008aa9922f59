"""The paper's augmentations (appendix B), in its order, each drawn once per stack and the same for all its slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from scipy.special import ive

from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL

ROTATION_DEGREES = 25.0
SHEAR_DEGREES = 20.0


def patch_size_to_load(patch_size: Sequence[int]) -> list[int]:
    """Return the in-plane size to load so that the largest rotation and shear leave no corner empty."""
    depth, height, width = patch_size
    angle, shear = math.radians(ROTATION_DEGREES), math.tan(math.radians(SHEAR_DEGREES))
    # extremes of |R S| over the corners of the patch, R a rotation and S a shear along the rows
    across = width + shear * height
    tall = math.ceil(across * math.sin(angle) + height * math.cos(angle))
    wide = math.ceil(across * math.cos(angle) + height * math.sin(angle))
    return [depth, max(tall, height), max(wide, width)]


class InPlaneAffineTransform(BasicTransform):
    """Rotate and shear all slices by the same random angles, and crop the centre to ``size``.

    Works on slices as channels, (C * D, H, W), as ``Convert3DTo2DTransform`` leaves them. The image is
    interpolated linearly, the segmentation takes the nearest label; voxels outside the loaded patch
    become 0 and the padding label.

    Args:
        size: in-plane output size; None to keep the input size.
        rotation_degrees: largest rotation either way.
        shear_degrees: largest shear either way.
        probability: share of stacks that are rotated and sheared; all are cropped.
    """

    def __init__(
        self,
        size: Sequence[int] | None,
        rotation_degrees: float = ROTATION_DEGREES,
        shear_degrees: float = SHEAR_DEGREES,
        probability: float = 1.0,
    ):
        super().__init__()
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.rotation_degrees = rotation_degrees
        self.shear_degrees = shear_degrees
        self.probability = probability

    def get_parameters(self, **data_dict) -> dict:
        height, width = data_dict["image"].shape[-2:]
        angle = shear = 0.0
        if np.random.uniform() < self.probability:
            angle = math.radians(np.random.uniform(-self.rotation_degrees, self.rotation_degrees))
            shear = math.tan(math.radians(np.random.uniform(-self.shear_degrees, self.shear_degrees)))
        rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = rotation @ torch.tensor([[1.0, shear], [0.0, 1.0]])  # on (x, y) in voxels
        centre, framed = self.frame(**data_dict)
        # affine_grid works in units of half the output and half the input, from their centres
        source = torch.tensor([width, height])
        theta = matrix * framed[None, :] / source[:, None]
        theta = torch.cat([theta, ((2 * centre - source) / source)[:, None]], dim=1)[None]
        return {"grid": F.affine_grid(theta, [1, 1, *(self.size or (height, width))], align_corners=False)}

    def frame(self, **data_dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Centre (x, y) and size (width, height) in voxels of the region that becomes the output: the central crop."""
        height, width = data_dict["image"].shape[-2:]
        rows, columns = self.size or (height, width)
        return torch.tensor([width, height]) / 2, torch.tensor([columns, rows])

    def _apply_to_image(self, img: torch.Tensor, **params) -> torch.Tensor:
        return F.grid_sample(img[None], params["grid"], mode="bilinear", align_corners=False)[0]

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params) -> torch.Tensor:
        # grid_sample pads with 0: shift the labels so that the padding label is 0 meanwhile
        shifted = (segmentation[None] - PADDING_LABEL).float()
        sampled = F.grid_sample(shifted, params["grid"], mode="nearest", align_corners=False)[0]
        return sampled.to(segmentation.dtype) + PADDING_LABEL


class StackNoiseTransform(GaussianNoiseTransform):
    """Add one field of Gaussian noise to all slices of a stack; each channel has its own field.

    This is the literal reading of the paper's "applied consistently across all frames".
    :class:`GaussianNoiseTransform` draws noise for each slice. Its ``noise_variance`` is a standard deviation, despite
    its name.

    Works on slices as channels, (C * D, H, W), between ``Convert3DTo2DTransform`` and ``Convert2DTo3DTransform``.
    """

    def get_parameters(self, **data_dict) -> dict:
        still = torch.zeros(data_dict["nchannels_img"], 1, *data_dict["image"].shape[-2:])
        return {"noise": super()._apply_to_image(still, **super().get_parameters(image=still))}

    def _apply_to_image(self, img: torch.Tensor, **params) -> torch.Tensor:
        noise = params["noise"]
        stacks = img.reshape(len(noise), -1, *img.shape[-2:])
        return (stacks + noise.to(img)).reshape(img.shape)


def gaussian_kernel(sigma: float) -> torch.Tensor:
    """The discrete Gaussian: its variance is ``sigma`` squared for any ``sigma``, also below a voxel.

    A sampled Gaussian (batchgeneratorsv2's kernel) of a quarter of a voxel is next to no blur.
    """
    radius = 2 + math.ceil(6 * sigma)
    weights = torch.from_numpy(ive(np.arange(-radius, radius + 1), sigma**2)).float()
    return weights / weights.sum()


class NetworkImageBlurTransform(GaussianBlurTransform):
    """Gaussian blur whose strength is stated in pixels of the image that the network sees.

    The paper blurs slices after resizing them to the network's image; here the network resizes them, later. A standard
    deviation of s pixels of an image of ``image_size`` is s * side / image_size voxels of a patch with that side.

    Args:
        blur_sigma: standard deviation in pixels, or the range it is drawn from, along each axis.
        image_size: side of the network's square image in pixels.
    """

    def __init__(self, blur_sigma: float | tuple[float, float], image_size: int):
        super().__init__(blur_sigma=blur_sigma, synchronize_channels=True, p_per_channel=1)
        self.image_size = image_size

    def get_parameters(self, **data_dict) -> dict:
        params = super().get_parameters(**data_dict)
        sides = data_dict["image"].shape[1:]
        params["sigmas"] = [sigma * side / self.image_size for sigma, side in zip(params["sigmas"], sides)]
        return params

    def _apply_to_image(self, img: torch.Tensor, **params) -> torch.Tensor:
        slices = img[:, None]
        for axis, sigma in enumerate(params["sigmas"]):
            kernel = gaussian_kernel(sigma).to(img)
            padding = [0, 0, 0, 0]
            padding[2 - 2 * axis : 4 - 2 * axis] = [len(kernel) // 2] * 2
            weight = kernel[None, None, :, None] if axis == 0 else kernel[None, None, None]
            slices = F.conv2d(F.pad(slices, padding, mode="reflect"), weight)
        return slices[:, 0]


class RandomMosaicTransform(BasicTransform):
    """Shrink the stack to a quarter and tile the slices with four copies of it, each mirrored at random.

    As in SAM 2's training recipe, except that all four copies keep their labels: without a prompt there is
    nothing that could tell one copy from the others.

    Works on slices as channels, (C * D, H, W).
    """

    def get_parameters(self, **data_dict) -> dict:
        return {"mirrored": np.random.uniform(size=4) < 0.5}

    def _tile(self, slices: torch.Tensor, mode: str, mirrored: np.ndarray) -> torch.Tensor:
        height, width = slices.shape[-2:]
        # cut rather than shrink unevenly where a side is odd
        tiles_size = ((height + 1) // 2, (width + 1) // 2)
        options = {"align_corners": False, "antialias": True} if mode == "bilinear" else {}
        small = F.interpolate(slices[None].float(), size=tiles_size, mode=mode, **options)[0]
        tiles = [small.flip(-1) if flip else small for flip in mirrored]
        rows = [torch.cat(tiles[:2], dim=-1), torch.cat(tiles[2:], dim=-1)]
        return torch.cat(rows, dim=-2)[..., :height, :width].to(slices.dtype)

    def _apply_to_image(self, img: torch.Tensor, **params) -> torch.Tensor:
        return self._tile(img, "bilinear", params["mirrored"])

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params) -> torch.Tensor:
        return self._tile(segmentation, "nearest-exact", params["mirrored"])


def paper_transforms(
    affine: BasicTransform,
    mirror_axes: Sequence[int],
    image_size: int,
    mosaic_probability: float = 0.15,
    noise_probability: float = 0.1,
    blur_probability: float = 0.2,
) -> list[BasicTransform]:
    """The paper's augmentations in its order, on (C, D, H, W) stacks.

    Flip and affine, [resize], noise and blur, RandomMosaic. The resize is the network's, so that here the last three
    come before it: the blur is scaled accordingly, and noise has the grain of the patch's voxels. The paper states no
    strength for noise and blur, nor how often they are applied: both are nnU-Net's.

    Args:
        affine: rotates, shears and crops slices to the patch size.
        mirror_axes: spatial axes that may be flipped.
        image_size: side in pixels to which the network resizes slices.
        mosaic_probability: share of stacks that are tiled (the paper: 0.15).
        noise_probability: share of stacks with noise.
        blur_probability: share of stacks that are blurred.
    """
    return [
        MirrorTransform(allowed_axes=tuple(mirror_axes)),
        Convert3DTo2DTransform(),
        affine,
        RandomTransform(
            StackNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True),
            apply_probability=noise_probability,
        ),
        RandomTransform(NetworkImageBlurTransform((0.5, 1.0), image_size), apply_probability=blur_probability),
        RandomTransform(RandomMosaicTransform(), apply_probability=mosaic_probability),
        Convert2DTo3DTransform(),
    ]
