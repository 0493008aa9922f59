"""The contenders of prediction: our predictor, stock windows of the same network, nnU-Net's network, SAM 2's video."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
from nnunetv2_sam2_3dmed.network.precision import has_native_bfloat16
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures, SliceCache
from nnunetv2_sam2_3dmed.report.costs import count_encoded_slices, count_windows
from nnunetv2_sam2_3dmed.report.operations import Operations, count_operations
from speed_parts.plans import FULLRES, OURS, build_network, ct_like_volume, dataset_json, make_plans
from speed_parts.settings import Setting, Shape
from speed_parts.timing import Contender
from speed_parts.video import VideoContender, build_video_predictor

# by importance, in which a run that is short of time measures them
KINDS = ("ours", "stock_windows", "nnunet_3d_fullres", "video_3", "cached_windows", "video_1")


class EncodesAnew(SliceCache):
    """Stand-in for the slice cache that keeps nothing, as in a network without one."""

    def encode(self, slices: torch.Tensor, encoder: Callable[..., LevelFeatures], *_: Any, **__: Any) -> LevelFeatures:
        return encoder(slices)


class PredictorContender(Contender):
    """nnU-Net's predictor, or ours, on a volume; the logits stay on the device.

    Args:
        name, words, precision: as in :class:`Contender`.
        predictor: initialised.
        volume: (C, D, H, W), on the CPU.
        work: of a volume of a shape (D, H, W), in some unit; seconds grow in proportion to it.
        unit: of ``work``.
        cache: what the network keeps slices with; None for networks that keep none.
    """

    def __init__(
        self,
        name: str,
        words: str,
        precision: str,
        predictor: nnUNetPredictor,
        volume: torch.Tensor,
        work: Callable[[Shape], float],
        unit: str,
        cache: Callable[[], SliceCache] | None = None,
    ):
        self.name, self.words, self.precision = name, words, precision
        self.predictor, self.network = predictor, predictor.network
        self.volume, self.work, self.unit, self.cache = volume, work, unit, cache
        self.trunk = self.network.encoder.trunk if cache is not None else None

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        # nnU-Net keeps the weights of two tile sizes, enough for one model after the other but not for taking turns
        tile = tuple(self.predictor.configuration_manager.patch_size)
        compute_gaussian(tile, sigma_scale=1.0 / 8, value_scaling_factor=10, device=device)
        if self.cache is not None:
            self.network.slice_cache = self.cache()
            self.network.precision = self.precision

    def run(self) -> torch.Tensor:
        return self.predictor.predict_sliding_window_return_logits(self.volume)

    def release(self) -> None:
        super().release()
        if self.cache is not None:
            self.network.slice_cache.clear()


def precisions(device: torch.device) -> tuple[str, ...]:
    """In which SAM 2's networks are measured: float32 everywhere but on GPUs with bfloat16."""
    native = has_native_bfloat16(device)
    if device.type == "cuda":
        return ("bfloat16",) if native else ("float32",)
    return ("float32", "bfloat16") if native else ("float32",)


def contenders_for(
    setting: Setting, image_size: int, slices: int, device: torch.device, kinds: Sequence[str] = KINDS
) -> list[Contender]:
    """All contenders on a volume of ``slices`` slices of ``image_size`` x ``image_size``; networks are shared."""
    plans = make_plans(setting, image_size, setting.objects)
    volume = ct_like_volume((slices, image_size, image_size))
    network, counted = build_network(plans, OURS, setting.objects), CountedWork(plans, setting.objects)
    video = None
    if any(kind.startswith("video") for kind in kinds):
        video = build_video_predictor(network.backbone, image_size)
    made: list[Contender] = []
    for kind in kinds:
        if kind == "nnunet_3d_fullres":
            made.append(_nnunet(plans, setting, volume, device))
            continue
        for precision in precisions(device):
            if video is not None and kind.startswith("video"):
                objects = min(int(kind.removeprefix("video_")), setting.objects)
                made.append(VideoContender(kind, precision, video, network.encoder.adapter, volume, objects))
            else:
                made.append(_ours(kind, precision, network, plans, setting, volume, device, counted))
    return made


def _predictor(kind: str, device: torch.device) -> nnUNetPredictor:
    options = {
        "use_mirroring": False,
        "perform_everything_on_device": device.type == "cuda",
        "device": device,
        "allow_tqdm": False,
    }
    with redirect_stdout(io.StringIO()):  # says on a CPU what it was told
        if kind == "ours":
            return SAM2_3dMedPredictor(**options)
        return nnUNetPredictor(**options)


WORDS = {
    "ours": "SAM2_3dMedPredictor",
    "cached_windows": "nnUNetPredictor, window by window, each slice encoded once",
    "stock_windows": "nnUNetPredictor, window by window, each window encoded anew",
}


def _ours(
    kind: str,
    precision: str,
    network: nn.Module,
    plans: dict[str, Any],
    setting: Setting,
    volume: torch.Tensor,
    device: torch.device,
    counted: CountedWork,
) -> PredictorContender:
    manager, dataset = PlansManager(plans), dataset_json(setting.objects)
    configuration, predictor = manager.get_configuration(OURS), _predictor(kind, device)
    predictor.manual_initialization(network, manager, configuration, None, dataset, "SAM2_3dMedTrainer", (2,))
    patch = tuple(configuration.patch_size)
    work, unit = {"stock_windows": (lambda shape: count_windows(shape, patch), "windows")}.get(
        kind, (counted, "operations")
    )
    cache = EncodesAnew if kind == "stock_windows" else SliceCache
    return PredictorContender(f"{kind}/{precision}", WORDS[kind], precision, predictor, volume, work, unit, cache)


class CountedWork:
    """Operations to predict a volume with windows of which each slice is encoded once."""

    def __init__(self, plans: dict[str, Any], classes: int):
        self.patch = tuple(plans["configurations"][OURS]["patch_size"])
        self._plans, self._classes = plans, classes

    @cached_property
    def operations(self) -> Operations:
        # a network of its own: counting leaves tables without values in it
        return count_operations(build_network(self._plans, OURS, self._classes), (1, 1, *self.patch))

    def __call__(self, shape: Shape) -> float:
        return self.operations.of_volume(
            count_windows(shape, self.patch), 1, count_encoded_slices(shape, self.patch, ())
        )


def _nnunet(plans: dict[str, Any], setting: Setting, volume: torch.Tensor, device: torch.device) -> PredictorContender:
    manager, dataset = PlansManager(plans), dataset_json(setting.objects)
    predictor = _predictor("nnunet_3d_fullres", device)
    network = build_network(plans, FULLRES, setting.objects)
    configuration = manager.get_configuration(FULLRES)
    predictor.manual_initialization(network, manager, configuration, None, dataset, "nnUNetTrainer", None)
    precision = "float16 autocast" if device.type == "cuda" else "float32"
    return PredictorContender(
        f"nnunet_3d_fullres/{precision.split()[0]}",
        f"nnUNetPredictor, PlainConvUNet, patches of {' x '.join(map(str, setting.nnunet_patch))}",
        precision,
        predictor,
        volume if setting.nnunet_volume else ct_like_volume(setting.nnunet_patch),
        lambda shape: count_windows(shape, setting.nnunet_patch),
        "patches",
    )
