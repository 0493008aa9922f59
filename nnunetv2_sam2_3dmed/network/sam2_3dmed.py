"""SAM2-3dMed: the network that nnU-Net builds from the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.network.attention import attention_kernels
from nnunetv2_sam2_3dmed.network.boundary import BoundaryFusion
from nnunetv2_sam2_3dmed.network.compilation import EAGER, Compiled
from nnunetv2_sam2_3dmed.network.mask_propagation import MaskPropagation
from nnunetv2_sam2_3dmed.network.memory_rules import FirstAndLatest
from nnunetv2_sam2_3dmed.network.precision import autocast, check_precision
from nnunetv2_sam2_3dmed.network.refinement import MAX_LEVELS, MaskRefinement
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, SAM2Base, build_sam2_base
from nnunetv2_sam2_3dmed.network.self_sorting import SelfSorting
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures, SliceCache
from nnunetv2_sam2_3dmed.network.slice_encoder import InputAdapter, SliceEncoder, SliceFeatures, slices_at_once
from nnunetv2_sam2_3dmed.network.srpp import SliceRelativePositionPredictor

MAX_MEMORIES = 7  # SAM 2's temporal encoding has that many entries
BOUNDARY_BRANCHES = ("parallel", "shared", "fused")


class TrainingOutput(NamedTuple):
    """Results in training mode: inputs of the three losses.

    Masks stay at the decoder's resolution, S/4, or the refinement's, S; :func:`at_patch_size` makes the logits of
    voxels of them.

    Attributes:
        masks: (B, D, K, S/4, S/4) or (B, D, K, S, S), mask logits of the K foreground classes or regions.
        boundaries: (B, D, K, S/4, S/4), the same of their boundaries; None without BD.
        offsets: (B, D, D), predicted j - i, in slices or in the trainer's unit; None without SRPP.
    """

    masks: torch.Tensor
    boundaries: torch.Tensor | None
    offsets: torch.Tensor | None


def at_patch_size(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize mask logits (B, D, K, h, w) to the slices of a patch, ``size`` (H, W): (B, K, D, H, W)."""
    if masks.shape[-2:] != size:
        shrinks = masks.shape[-2] > size[0] or masks.shape[-1] > size[1]
        resized = F.interpolate(masks.flatten(0, 1), size=size, mode="bilinear", align_corners=False, antialias=shrinks)
        masks = resized.unflatten(0, masks.shape[:2])
    return masks.transpose(1, 2)


class SAM2_3dMed(nn.Module):
    """SAM 2's image encoder, a segmentation branch with memory over slices, SRPP and BD (paper, section 3).

    All arguments are plain values, so that nnU-Net's plan can hold them (``architecture.arch_kwargs``).

    Args:
        input_channels: C of the patches.
        num_classes: nnU-Net's number of segmentation heads.
        regions: heads are regions, each with a sigmoid of its own. Otherwise head 0 is the background, whose
            logit is the constant 0: the argmax then is the class with the largest positive logit, else
            background, which is what one binary cross entropy per class trains.
        backbone: one of ``sam2_modules.BACKBONES``.
        image_size: S, to which slices are resized; a multiple of 32.
        num_slices: D of the patches; prediction takes any number.
        num_memories: how many slices a slice looks back to, 1 to 7 (slice 0 and the latest ones).
        srpp: with slice relative position prediction.
        srpp_memory: with a memory inside SRPP (Table 9).
        boundary: with boundary detection.
        boundary_fusion: with BD fusion (Table 6).
        boundary_branch: how the boundary branch belongs to the segmentation, which the paper leaves open (see
            docs/explanation/decisions.md): "parallel", they share the encoder alone; "shared", also memory attention;
            "fused", the decoder of the masks gets the boundary branch's features too, also in prediction.
        bidirectional: both branches also run from the last slice to the first, and average their logits.
        self_sorting_memory: the segmentation branch attends to memories chosen by confidence, difference and likeness,
            inspired by MedSAM-2, instead of to slice 0 and the latest ones.
        freeze_trunk: do not train the Hiera trunk.
        lora_rank: rank of trained updates (LoRA) of the trunk's attention layers; 0 for none.
        refine_masks: levels of a U-Net on each slice that takes the masks to the image's resolution (ours); 0 for
            none.
        fitted_windows: the trunk's attention windows are never larger than the image; SAM 2 pads small images
            instead, and its weights have learned that.
        dropout: in memory attention, but not of attention weights, where SAM 2's code has 0.1 as well.
        intensity_range: normalised intensities that become black and white.
        precision: one of ``precision.PRECISIONS``.
        activation_checkpointing: train in less memory and more time: both branches keep only the masks and memories of
            their slices (and what refines the masks), a trunk that trains only its input, and the rest is computed a
            second time in backward.

    Raises:
        ValueError: an argument has a value that cannot work; the message names it.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        regions: bool = False,
        backbone: str = "sam2.1_hiera_tiny",
        image_size: int = 512,
        num_slices: int = 12,
        num_memories: int = MAX_MEMORIES,
        srpp: bool = True,
        srpp_memory: bool = False,
        boundary: bool = True,
        boundary_fusion: bool = True,
        boundary_branch: str = "parallel",
        bidirectional: bool = False,
        self_sorting_memory: bool = False,
        freeze_trunk: bool = True,
        lora_rank: int = 0,
        fitted_windows: bool = False,
        refine_masks: int = 0,
        dropout: float = 0.1,
        intensity_range: Sequence[float] = (-3.0, 3.0),
        precision: str = "auto",
        activation_checkpointing: bool = False,
    ):
        super().__init__()
        num_masks = num_classes if regions else num_classes - 1
        if num_masks < 1:
            raise ValueError(f"num_classes is {num_classes}, but at least one foreground class is needed.")
        if not 1 <= num_memories <= MAX_MEMORIES:
            raise ValueError(f"num_memories is {num_memories}, but must be 1 to {MAX_MEMORIES}.")
        if num_slices < 2:
            raise ValueError(f"num_slices is {num_slices}, but memory needs at least 2.")
        if lora_rank < 0:
            raise ValueError(f"lora_rank is {lora_rank}, but must be 0 (none) or a positive rank.")
        if not 0 <= refine_masks <= MAX_LEVELS:
            raise ValueError(f"refine_masks is {refine_masks}, but must be 0 (none) to {MAX_LEVELS} levels.")
        if boundary_branch not in BOUNDARY_BRANCHES:
            raise ValueError(
                f"boundary_branch is {boundary_branch!r}, but must be one of {', '.join(BOUNDARY_BRANCHES)}."
            )
        check_precision(precision)
        low, high = intensity_range
        self.regions = regions
        self.backbone = backbone
        self.precision = precision
        self.num_slices = num_slices

        sam2: SAM2Base = build_sam2_base(backbone, image_size, num_memories, dropout)
        adapter = InputAdapter(input_channels, image_size, (low, high))
        channels = sam2.hidden_dim
        self.slice_cache = SliceCache()
        self.encoder = SliceEncoder(
            sam2.image_encoder, adapter, freeze_trunk, lora_rank, fitted_windows, activation_checkpointing
        )
        self.segmentation = MaskPropagation(
            sam2,
            num_masks,
            bidirectional=bidirectional,
            rule=SelfSorting() if self_sorting_memory else FirstAndLatest(),
            checkpointing=activation_checkpointing,
            refinement=MaskRefinement(refine_masks, channels // 8) if refine_masks else None,
        )
        self.boundary: MaskPropagation | None = None
        if boundary:
            fusion = BoundaryFusion(channels) if boundary_fusion else None
            self.boundary = MaskPropagation(
                build_sam2_base(backbone, image_size, num_memories, dropout, with_trunk=False),
                num_masks,
                fusion,
                bidirectional,
                checkpointing=activation_checkpointing,
                memory_attention=self.segmentation.memory_attention if boundary_branch == "shared" else None,
            )
        self.fused = boundary and boundary_branch == "fused"
        self.srpp = SliceRelativePositionPredictor(channels, memory=srpp_memory) if srpp else None
        self.register_load_state_dict_post_hook(_forget_slices)

    def forward(self, patches: torch.Tensor) -> TrainingOutput | torch.Tensor:
        """Segment B patches.

        Compiled as a whole (``torch.compile(network)``, which nnU-Net does), what is compiled is one step of a slice,
        and not the loop over all of them, which would be a graph of some ten thousand operations.

        Args:
            patches: (B, C, D, H, W), normalised as nnU-Net does; axis D is the slice axis.

        Returns:
            In training mode a :class:`TrainingOutput`, in eval mode the logits (B, heads, D, H, W), float32.
            At inference only the segmentation branch runs (and, "fused", the boundary branch).
        """
        # a constant of the code that torch.compile makes of this function
        return self._forward(patches, Compiled.COMPILED if torch.compiler.is_compiling() else EAGER)

    @torch.compiler.disable
    def _forward(self, patches: torch.Tensor, compiled: Compiled) -> TrainingOutput | torch.Tensor:
        size = (patches.shape[-2], patches.shape[-1])
        if torch.is_inference_mode_enabled() and not self.training:
            with self._inference_context(patches.device):
                return self._infer(patches, size, compiled)
        with self._context(patches.device):
            features = self.encoder(patches)
            if not self.training:
                return self.heads(self._masks(patches, self._projected(features), compiled), size)
            boundaries, fused = None, None
            if self.boundary is not None:
                boundaries, fused = self.boundary(features, None, self.fused, compiled)
            masks = self.segmentation(features, fused, False, compiled, self._images(patches)).masks
            offsets = self.srpp(features.stride16) if self.srpp is not None else None
            return TrainingOutput(masks, boundaries, offsets)

    @contextmanager
    def _context(self, device: torch.device) -> Iterator[None]:
        """Precision and attention kernels of everything that the network computes on ``device``."""
        with autocast(device, self.precision), attention_kernels(device, self.tokens_per_slice):
            yield

    @contextmanager
    def _inference_context(self, device: torch.device) -> Iterator[None]:
        """Like :meth:`_context`, without gradients and without torch's inference mode.

        In inference mode autocast does not keep the weights that it has cast, but casts them again for each slice.
        """
        with torch.inference_mode(False), torch.no_grad(), self._context(device):
            yield

    @property
    def tokens_per_slice(self) -> int:
        """Stride-16 features of a slice, which memory attention works on."""
        return (self.encoder.adapter.image_size // STRIDE) ** 2

    def _infer(self, patches: torch.Tensor, size: tuple[int, int], compiled: Compiled) -> torch.Tensor:
        """Compute the logits, from features that are cached for later windows."""
        with suppress(torch.OutOfMemoryError):
            return self.heads(self._masks(patches, self._known_features(patches), compiled), size)
        # the cache may be what filled the memory; here, the first attempt holds nothing any more
        self.slice_cache.clear()
        torch.cuda.empty_cache()
        return self.heads(self._masks(patches, self._known_features(patches), compiled), size)

    def _images(self, patches: torch.Tensor) -> torch.Tensor | None:
        """The slices (B, D, 3, S, S) as the encoder gets them, if the masks are refined."""
        if self.segmentation.refinement is None:
            return None
        return self.encoder.adapter(patches).unflatten(0, (patches.shape[0], patches.shape[2]))

    def _projected(self, features: SliceFeatures) -> SliceFeatures:
        """Features as the decoders of the masks take them; "fused", the channels of both branches' decoders."""
        projected = self.segmentation.project(features)
        if not self.fused or self.boundary is None:
            return projected
        pairs = zip(projected[:2], self.boundary.project(features)[:2], strict=True)
        stride4, stride8 = (torch.cat(levels, dim=2) for levels in pairs)
        return projected._replace(stride4=stride4, stride8=stride8)

    def _of_branches(self, projected: SliceFeatures) -> tuple[SliceFeatures, SliceFeatures]:
        """The segmentation's and the boundary branch's part of what :meth:`_projected` gives, "fused"."""
        stride4, stride8 = (level.chunk(2, dim=2) for level in projected[:2])
        first, second = (projected._replace(stride4=stride4[i], stride8=stride8[i]) for i in range(2))
        return first, second

    def _masks(self, patches: torch.Tensor, projected: SliceFeatures, compiled: Compiled = EAGER) -> torch.Tensor:
        """Mask logits (B, D, K, h, w) of stacks, without gradients for the auxiliary tasks."""
        images = self._images(patches)
        if not self.fused or self.boundary is None:
            return self.segmentation.propagate(projected, compiled=compiled, images=images).masks
        own, boundary = self._of_branches(projected)
        fused = self.boundary.propagate(boundary, None, True, compiled).decoded
        return self.segmentation.propagate(own, fused, False, compiled, images).masks

    def _known_features(self, patches: torch.Tensor) -> SliceFeatures:
        """Return :meth:`_projected` of B stacks of D slices, encoding only slices not in the cache.

        nnU-Net's predictor, also that of the final validation, is what runs in inference mode. Its windows overlap.
        """
        at_once = slices_at_once(patches.device, self.encoder.adapter.image_size)

        def encode_some(slices: torch.Tensor) -> LevelFeatures:
            projected = self._projected(self.encoder(slices[:, :, None]))
            return LevelFeatures._make(level.flatten(0, 1) for level in projected[:3])

        def encode(slices: torch.Tensor) -> LevelFeatures:
            parts = [encode_some(some) for some in slices.split(at_once)]
            return LevelFeatures._make(torch.cat(level) for level in zip(*parts, strict=True))

        weights = list(self.encoder.parameters())
        for branch in (self.segmentation, self.boundary if self.fused else None):
            if branch is not None:
                decoder = branch.mask_decoder
                weights += [*decoder.conv_s0.parameters(), *decoder.conv_s1.parameters()]
        levels = self.slice_cache.encode(patches.transpose(1, 2).flatten(0, 1), encode, weights)
        stride4, stride8, stride16 = (level.unflatten(0, (patches.shape[0], patches.shape[2])) for level in levels)
        return SliceFeatures(stride4, stride8, stride16, self.encoder.position(levels.stride16))

    def heads(self, masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Convert mask logits (B, D, K, h, w) to nnU-Net's logits (B, heads, D, H, W) at ``size`` (H, W)."""
        if not self.regions:
            # the background's zeros, before they are resized
            masks = torch.cat([torch.zeros_like(masks[:, :, :1]), masks], dim=2)
        return at_patch_size(masks, size)


def _forget_slices(network: SAM2_3dMed, _incompatible_keys: object) -> None:
    network.slice_cache.clear()
