"""nnU-Net's plans for a dataset like MSD spleen, in memory, and what they describe: networks and a volume."""

from __future__ import annotations

import copy
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configuration
from torch import nn

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from speed_parts.settings import Setting, Shape

FULLRES, OURS = "3d_fullres", "3d"
# the first level keeps its slices: they are twice as far apart as the voxels in the plane
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
PLAIN_CONV_UNET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], *([[3, 3, 3]] * 5)],
        "strides": STRIDES,
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def dataset_json(classes: int) -> dict[str, Any]:
    """A CT dataset with ``classes`` foreground labels."""
    labels = {"background": 0, **{f"class {i}": i for i in range(1, classes + 1)}}
    return {"labels": labels, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


def make_plans(setting: Setting, image_size: int, classes: int, nnunet_batch: int = 2) -> dict[str, Any]:
    """The content of nnUNetPlans.json: ``3d_fullres`` as nnU-Net plans spleen, and ``3d`` as our planner adds it."""
    plans = {
        "dataset_name": "Dataset009_Spleen",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            FULLRES: {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "batch_size": nnunet_batch,
                "patch_size": list(setting.nnunet_patch),
                "median_image_size_in_voxels": [setting.full_slices, image_size, image_size],
                "spacing": [1.6, 0.8, 0.8],
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": False,
                "architecture": copy.deepcopy(PLAIN_CONV_UNET),
            }
        },
    }
    options = PlanOptions(
        image_size=image_size, slices=setting.patch_slices, patch_size=(image_size, image_size), batch_size=1
    )
    add_configuration(plans, dataset_json(classes), options)
    return plans


def build_network(plans: dict[str, Any], configuration: str, classes: int) -> nn.Module:
    """The network of a configuration with random weights, in eval mode on the CPU, as nnU-Net builds it."""
    manager = PlansManager(plans)
    trainer = SAM2_3dMedTrainer if configuration == OURS else nnUNetTrainer
    return trainer.build_network_architecture(
        manager, manager.get_configuration(configuration), 1, classes + 1, enable_deep_supervision=False
    ).eval()


def ct_like_volume(shape: Shape) -> torch.Tensor:
    """A normalised volume (1, D, H, W): a body with organs, and noise, so that no slice is like another."""
    generator = torch.Generator().manual_seed(0)
    z, y, x = (torch.linspace(-1, 1, n) for n in shape)
    distance = (z[:, None, None] * 0.6) ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    volume = torch.where(distance < 0.8, 0.0, -3.0)
    volume += 0.8 * torch.cos(9 * y)[None, :, None] * torch.cos(7 * x)[None, None, :] * (distance < 0.6)
    return (volume + 0.2 * torch.randn(shape, generator=generator))[None]
