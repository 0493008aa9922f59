"""MONAI's MedNeXt, SwinUNETR and UNETR, in the sizes that their authors published, for patches of any size.

MONAI is an extra of this package: it is imported only when a network is built, so that nnU-Net finds the other
trainers without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from torch import nn

from nnunetv2_sam2_3dmed.baselines.padding import PaddedNetwork, padded_size
from nnunetv2_sam2_3dmed.errors import UserError

INSTALL = "run `pip install 'nnunetv2-sam2-3dmed[monai]'`."


def monai_nets() -> ModuleType:
    """Return the module ``monai.networks.nets``.

    Raises:
        UserError: MONAI is missing or older than 1.5, the first with MedNeXt.
    """
    try:
        nets = importlib.import_module("monai.networks.nets")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "monai":
            raise
        raise UserError(
            f"the package monai is not installed, expected monai 1.5 or newer, which has the networks MedNeXt, "
            f"SwinUNETR and UNETR: {INSTALL}"
        ) from error
    if not hasattr(nets, "MedNeXtS"):
        raise UserError(f"monai is {version('monai')}, expected 1.5 or newer, which has MedNeXt: {INSTALL}")
    return nets


class PaddedMedNeXt(PaddedNetwork):
    """MONAI's MedNeXt, with outputs for deep supervision that can be switched on and off.

    Their layers are always built, so that nnU-Net's prediction, which builds the network without deep supervision,
    can load the checkpoints of training.
    """

    step = 16

    def __init__(self, network: nn.Module):
        super().__init__(network, self.step)

    def set_deep_supervision(self, enabled: bool) -> None:
        """Switch between a list of five outputs, each of half the size of the one before, and the first alone."""
        self.network.do_ds = enabled  # type: ignore[assignment]

    def train(self, mode: bool = True) -> PaddedMedNeXt:
        super().train(mode)
        # MONAI gives the coarse outputs in training mode only, but nnU-Net's validation loss wants them too; no
        # layer of MedNeXt depends on the mode
        self.network.train()
        return self


def mednext(size: str, input_channels: int, output_channels: int, deep_supervision: bool) -> PaddedMedNeXt:
    """Build MedNeXt with kernels of 3 x 3 x 3 (Roy et al., MICCAI 2023, arXiv 2303.09975, table 1).

    Args:
        size: ``S``, ``B``, ``M`` or ``L``.
        input_channels: of the image.
        output_channels: K.
        deep_supervision: as for :meth:`PaddedMedNeXt.set_deep_supervision`.
    """
    build = getattr(monai_nets(), f"MedNeXt{size}")
    network = PaddedMedNeXt(
        build(
            spatial_dims=3,
            in_channels=input_channels,
            out_channels=output_channels,
            kernel_size=3,
            deep_supervision=True,
        )
    )
    network.set_deep_supervision(deep_supervision)
    return network


def swin_unetr(input_channels: int, output_channels: int) -> PaddedNetwork:
    """Build SwinUNETR with 48 features, as its authors train it (Hatamizadeh et al., arXiv 2201.01266)."""
    network = monai_nets().SwinUNETR(
        in_channels=input_channels, out_channels=output_channels, feature_size=48, spatial_dims=3
    )
    return PaddedNetwork(network, step=32)


def unetr(input_channels: int, output_channels: int, patch_size: Sequence[int]) -> PaddedNetwork:
    """Build UNETR with a ViT-B/16 encoder and 16 features (Hatamizadeh et al., WACV 2022, arXiv 2103.10504).

    Args:
        input_channels: of the image.
        output_channels: K.
        patch_size: in voxels; the position embedding has this size, so that other inputs do not fit.
    """
    step = 16
    network = monai_nets().UNETR(
        in_channels=input_channels,
        out_channels=output_channels,
        img_size=padded_size(patch_size, step),
        feature_size=16,
        hidden_size=768,
        mlp_dim=3072,
        num_heads=12,
        proj_type="conv",
        norm_name="instance",
        res_block=True,
        spatial_dims=3,
    )
    for block in network.vit.blocks:
        # UNETR never calls them: distributed training stops at parameters without gradient, and which of them MONAI
        # builds depends on its version, so that checkpoints would fit one version only
        block.cross_attn, block.norm_cross_attn = nn.Identity(), nn.Identity()
    return PaddedNetwork(network, step)
