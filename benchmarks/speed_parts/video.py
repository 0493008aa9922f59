"""SAM 2's own video predictor on the slices of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES
from speed_parts.settings import Shape
from speed_parts.timing import Contender

BOX = (0.3, 0.3, 0.6, 0.7)  # of the first slice, as shares of its sides


class VideoContender(Contender):
    """``SAM2VideoPredictor`` with random weights: a box for each object on the first slice, and all slices after it.

    It gets the images that our network's encoder gets, as tensors: reading JPEG files is not timed. What it gives is
    thresholded and stays on the device.

    Args:
        kind: the first part of the name.
        precision: "bfloat16" runs it under autocast, as its authors do on GPUs; "float32" is its default.
        predictor: SAM 2's.
        adapter: our network's, which makes images of slices.
        volume: (1, D, H, W), on the CPU.
        objects: how many to follow; the predictor follows each by itself.
    """

    unit = "slices"

    def __init__(
        self, kind: str, precision: str, predictor: nn.Module, adapter: nn.Module, volume: torch.Tensor, objects: int
    ):
        self.name, self.precision = f"{kind}/{precision}", precision
        self.words = f"SAM2VideoPredictor with {objects} object{'s' if objects > 1 else ''}"
        self.network, self.adapter = predictor, adapter
        self.trunk = self.network.image_encoder.trunk
        self.volume, self.objects = volume, objects

    @staticmethod
    def work(shape: Shape) -> float:
        return shape[0]

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        self.device = device
        self.adapter.to(device)

    def release(self) -> None:
        super().release()
        self.adapter.to("cpu")

    @torch.inference_mode()
    def run(self) -> torch.Tensor:
        height, width = self.volume.shape[-2:]
        left, top, right, bottom = BOX
        masks = torch.zeros((self.objects, *self.volume.shape[1:]), dtype=torch.bool, device=self.device)
        lowered = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")
        images = self.adapter(self.volume[None].to(self.device))
        with lowered, _frames(images, height, width):
            state = self.network.init_state("the frames above")
            for number in range(self.objects):
                box = [left * width, top * height, right * width, bottom * height]
                self.network.add_new_points_or_box(state, frame_idx=0, obj_id=number, box=box)
            for i, _, logits in self.network.propagate_in_video(state):
                masks[:, i] = logits[:, 0] > 0
        return masks


def build_video_predictor(backbone: str, image_size: int) -> nn.Module:
    """SAM 2's video predictor for square images of ``image_size`` pixels, on the CPU."""
    from sam2.build_sam import build_sam2_video_predictor

    # SAM 2 composes its configuration with Hydra's global state, which this package leaves alone
    ready = GlobalHydra.instance().is_initialized()
    with nullcontext() if ready else initialize_config_module("sam2", version_base="1.2"):
        return build_sam2_video_predictor(
            BACKBONES[backbone],
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={image_size}"],
            apply_postprocessing=False,
        )


@contextmanager
def _frames(images: torch.Tensor, height: int, width: int) -> Iterator[None]:
    """In this context the video predictor's frames are ``images`` (D, 3, S, S), and it shows no progress."""
    with (
        mock.patch("sam2.sam2_video_predictor.load_video_frames", lambda **_: (images, height, width)),
        mock.patch("sam2.sam2_video_predictor.tqdm", lambda order, **_: order),
    ):
        yield
