"""SAM 2's own predictors, to be run beside a session with the same random weights."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, SAM2Base, build_sam2_base

TINY = "sam2.1_hiera_tiny"
SIZE = 64


def make_lively(model: SAM2Base) -> None:
    """Random weights whose masks are neither empty nor full, with logits of some size, and objects always present."""
    decoder = model.sam_mask_decoder
    with torch.no_grad():
        for network in decoder.output_hypernetworks_mlps:
            network.layers[-1].weight *= 20
        decoder.pred_obj_score_head.layers[-1].bias += 20
        model.maskmem_tpos_enc.normal_(std=0.5)
        torch.nn.init.normal_(model.no_mem_embed, std=0.5)


def random_weights(backbone: str = TINY) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model = build_sam2_base(backbone, SIZE)
    make_lively(model)
    return model.state_dict()


def build(weights: dict[str, torch.Tensor], size: int = SIZE, backbone: str = TINY) -> SAM2Base:
    model = build_sam2_base(backbone, size)
    model.load_state_dict(weights)
    return model.eval()


def phantom(shape: tuple[int, int, int] = (7, 40, 48)) -> np.ndarray:
    """An ellipsoid in noise that has no symmetry; 0 to 1000."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    ball = ((z - 0.1) ** 2 + 1.5 * (y + 0.2) ** 2 + 2 * (x - 0.15) ** 2 < 0.5).astype(float)
    ramp = 0.2 * (x + 2 * y + 3 * z)
    return (np.clip(ball + ramp + 0.1 * rng.standard_normal(shape), 0, 1) * 1000).astype(np.float32)


def image_predictor(weights: dict[str, torch.Tensor], grey: np.ndarray, size: int = SIZE) -> SAM2ImagePredictor:
    """``SAM2ImagePredictor`` on a slice (rows, columns), uint8."""
    predictor = SAM2ImagePredictor(build(weights, size))
    predictor._bb_feat_sizes = [(size // 4,) * 2, (size // 8,) * 2, (size // 16,) * 2]  # made for 1024 pixels
    predictor.set_image(np.repeat(grey[..., None], 3, axis=-1))
    return predictor


class Reference:
    """``SAM2VideoPredictor`` without post-processing, on the slices of a session's image along one axis."""

    def __init__(self, weights: dict[str, torch.Tensor], folder: Path, backbone: str = TINY, size: int = SIZE):
        config = OmegaConf.create(files("sam2").joinpath(BACKBONES[backbone]).read_text()).model
        config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
        config.image_size = size
        # corrections become conditioning frames
        config.add_all_frames_to_correct_as_cond = True
        self.predictor = instantiate(config)
        self.predictor.load_state_dict(weights)
        self.predictor.eval()
        self.folder = folder

    def start(self, session: InteractiveSession, axis: int = 0, reverse: bool = False) -> dict:
        """A state for the video of all slices, or of the slices from last to first."""
        indices = list(range(session.image.shape[axis]))
        slices = [session.slice_as_seen(axis, i) for i in (indices[::-1] if reverse else indices)]
        for number, grey in enumerate(slices):
            Image.fromarray(grey).save(self.folder / f"{number}.jpg")
        state = self.predictor.init_state(str(self.folder))
        for file in self.folder.glob("*.jpg"):
            file.unlink()
        # not through JPEG's losses and PIL's interpolation: as SAM2ImagePredictor resizes
        transforms = SAM2ImagePredictor(self.predictor)._transforms
        state["images"] = torch.stack([transforms(np.repeat(grey[..., None], 3, axis=-1)) for grey in slices])
        state["cached_features"] = {}
        return state

    def propagate(self, state: dict, reverse: bool = False) -> dict[int, np.ndarray]:
        """Logits (objects, rows, columns) by frame."""
        return {
            frame: logits[:, 0].float().numpy()
            for frame, _, logits in self.predictor.propagate_in_video(state, reverse=reverse)
        }
