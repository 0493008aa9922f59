"""All imports from ``sam2``: its module classes, and the networks that its packaged YAML files describe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.utils import instantiate
from omegaconf import OmegaConf


@contextmanager
def _hydra_left_alone() -> Iterator[None]:
    """``import sam2`` initialises Hydra for the whole process unless somebody did; undo that."""
    state = Singleton.get_state()
    if "sam2" in sys.modules or GlobalHydra.instance().is_initialized():
        yield
        return
    try:
        yield
    finally:
        Singleton.set_state(state)


with _hydra_left_alone():
    import sam2.modeling.sam2_base  # noqa: F401  (what the YAML files instantiate)
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import ImageEncoder
    from sam2.modeling.memory_attention import MemoryAttention
    from sam2.modeling.memory_encoder import MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import RoPEAttention, compute_axial_cis
    from sam2.modeling.sam2_base import SAM2Base
    from sam2.modeling.sam2_utils import get_1d_sine_pe

__all__ = [
    "BACKBONES",
    "Hiera",
    "ImageEncoder",
    "MaskDecoder",
    "MemoryAttention",
    "MemoryEncoder",
    "PositionEmbeddingSine",
    "RoPEAttention",
    "SAM2Base",
    "build_sam2_base",
    "compute_axial_cis",
    "get_1d_sine_pe",
]

# name (that of the official checkpoint file) -> YAML file inside the sam2 package
BACKBONES = {
    f"sam{version}_hiera_{size}": f"configs/sam{version}/sam{version}_hiera_{letter}.yaml"
    for version in ("2", "2.1")
    for size, letter in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l"))
}

# stride of the features that memory attention and mask decoder work on
STRIDE = 16
# strides of the feature pyramid's levels, the coarsest of which SAM 2 drops
PYRAMID_STRIDES = (4, 8, 16, 32)

Network = TypeVar("Network", bound=SAM2Base)


def build_sam2_base(
    backbone: str,
    image_size: int,
    num_memories: int = 7,
    dropout: float = 0.1,
    with_trunk: bool = True,
    network: type[Network] = SAM2Base,  # type: ignore[assignment]
) -> Network:
    """Build SAM 2 as its packaged YAML describes it, for square images of another size.

    Args:
        backbone: a key of :data:`BACKBONES`, for example ``sam2.1_hiera_tiny``.
        image_size: side of the square images in pixels, a multiple of 32.
        num_memories: how many slices a slice can look back to (SAM 2's ``num_maskmem``).
        dropout: in memory attention, on the results of attention and in its multilayer perceptrons.
        with_trunk: False builds a stunted trunk, for who takes only what comes after it: the trunk is most of SAM 2.
        network: SAM 2's class, or one derived from it.

    Returns:
        The model with freshly initialised weights.

    Raises:
        ValueError: the backbone is not known, or the image size is not a positive multiple of 32.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone is {backbone!r}, but must be one of {', '.join(BACKBONES)}.")
    if image_size < 32 or image_size % 32:
        raise ValueError(f"image_size is {image_size}, but must be a positive multiple of 32, such as 256 or 512.")
    config: Any = OmegaConf.create(files("sam2").joinpath(BACKBONES[backbone]).read_text()).model
    config._target_ = f"{network.__module__}.{network.__qualname__}"
    config.image_size = image_size
    config.num_maskmem = num_memories
    for part, strides in ((config.image_encoder.neck, PYRAMID_STRIDES), (config.memory_encoder, (STRIDE,))):
        part.position_encoding._target_ = _path_to("positions", "GridEncoding")
        part.position_encoding.grids = [image_size // stride for stride in strides]
    if not with_trunk:
        trunk = config.image_encoder.trunk
        trunk.stages, trunk.global_att_blocks = [1, 1, 1, 1], []
    layer = config.memory_attention.layer
    layer.dropout = dropout
    for attention in (layer.self_attention, layer.cross_attention):
        attention._target_ = _path_to("positions", "RotaryAttention")
        attention.feat_sizes = [image_size // STRIDE, image_size // STRIDE]
        # SAM 2 also drops attention weights, which rules out the flash kernel for heads of 256 channels on GPUs of
        # compute capability 8.6, 8.9 and 12.0
        attention.dropout = 0.0
    return instantiate(config)


def _path_to(module: str, name: str) -> str:
    """The full name of a class of this package, for Hydra."""
    return f"{__package__}.{module}.{name}"
