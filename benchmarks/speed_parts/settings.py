"""Sizes and repetitions of the measurements, for each device."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

Shape = tuple[int, int, int]  # (D, H, W) in voxels


@dataclass(frozen=True)
class Setting:
    """Sizes and repetitions; volumes of SAM2-3dMed have slices of ``image_size`` x ``image_size``.

    Attributes:
        image_sizes: of the network, in pixels; prediction is measured at each, the first also against nnU-Net.
        volume_slices: of the volume that is predicted.
        full_slices: of the volume that all contenders are stated for, by measuring or by extrapolating.
        patch_slices: of SAM2-3dMed's patches.
        objects: foreground classes of the networks, and objects that SAM 2's video predictor follows at most.
        nnunet_patch: of nnU-Net's 3d_fullres configuration.
        nnunet_volume: predict the whole volume with nnU-Net's network; otherwise one patch, and extrapolate.
        repeats: rounds in which each contender predicts once, after a warm-up.
        training_image_size: of SAM2-3dMed's training step, batch 1.
        training_nnunet_batch: of nnU-Net's (its plan says 2).
        training_repeats: rounds of one training step each.
        classes: numbers of foreground classes to segment one patch with.
        classes_image_size: in pixels.
        slices: of the volumes whose cost is counted.
        slices_image_size: of those that are measured, in pixels.
        slices_measured: the largest volume that is measured.
        matrix_sizes: of the matrices whose products give the device's rate.
        minutes: after which nothing new is begun; None for no limit.
    """

    image_sizes: tuple[int, ...]
    volume_slices: int
    nnunet_volume: bool
    repeats: int
    training_image_size: int
    training_nnunet_batch: int
    training_repeats: int
    classes_image_size: int
    slices_image_size: int
    slices_measured: int
    matrix_sizes: tuple[int, ...]
    minutes: float | None = None
    full_slices: int = 187
    patch_slices: int = 12
    objects: int = 3
    nnunet_patch: Shape = (64, 192, 160)
    classes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 104)
    slices: tuple[int, ...] = (12, 24, 48, 96, 187, 384, 768)

    def changed(self, **values: Any) -> Setting:
        """With other values, which may come from JSON.

        Raises:
            ValueError: a name is not one of the attributes.
        """
        unknown = set(values) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
        return replace(self, **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


CUDA = Setting(
    image_sizes=(512, 256),
    volume_slices=187,
    nnunet_volume=True,
    repeats=3,
    training_image_size=512,
    training_nnunet_batch=2,
    training_repeats=10,
    classes_image_size=512,
    slices_image_size=512,
    slices_measured=768,
    matrix_sizes=(2048, 4096, 8192),
    minutes=8.5,  # a run that is stopped after ten minutes has finished what it began
)
# what two cores do in half an hour; a training step of 12 x 512 x 512 or of two of nnU-Net's patches needs a machine
# with more memory
CPU = Setting(
    image_sizes=(512, 256),
    volume_slices=36,
    nnunet_volume=False,
    repeats=3,
    training_image_size=256,
    training_nnunet_batch=1,
    training_repeats=2,
    classes_image_size=256,
    slices_image_size=128,
    slices_measured=96,
    matrix_sizes=(1024, 2048),
)
QUICK = {
    "cuda": {"image_sizes": (512,), "repeats": 2, "training_repeats": 3, "slices_measured": 187, "classes": (1, 104)},
    "cpu": {
        "image_sizes": (256,),
        "volume_slices": 24,
        "repeats": 1,
        "training_repeats": 1,
        "slices_measured": 24,
        "classes": (1, 104),
    },
}


def setting_for(device: str, quick: bool) -> Setting:
    """The default for "cpu" or "cuda"; ``quick`` takes a few minutes at most."""
    setting = {"cpu": CPU, "cuda": CUDA}[device]
    return setting.changed(**QUICK[device]) if quick else setting
