"""SAM 2 with its prompt encoder, from the same checkpoint files that trainings start from."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import (
    CHECKPOINTS,
    identify_backbone,
    installed_checkpoint,
    read_checkpoint,
)
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base, build_sam2_base
from nnunetv2_sam2_3dmed.nnunet_checkpoints import load_checkpoint

DEFAULT_MODEL = "MedSAM2_latest"
DEFAULT_IMAGE_SIZE = 512  # what MedSAM2 was fine-tuned at


def load_model(name_or_path: str | Path = DEFAULT_MODEL, image_size: int = DEFAULT_IMAGE_SIZE) -> SAM2Base:
    """Builds the network that a checkpoint belongs to and fills all of it.

    Args:
        name_or_path: an installed checkpoint (``sam2_3dmed weights``), such as "MedSAM2_latest" or
            "sam2.1_hiera_tiny", or a file in SAM 2's official format.
        image_size: side in pixels to which slices are resized, a multiple of 32. MedSAM2 was trained at 512, SAM 2 at
            1024, where a slice costs more than four times as much.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        UserError: the checkpoint is not there, cannot be read, or lacks a part that prompts need.
    """
    name = str(name_or_path)
    is_file = Path(name_or_path).is_file()
    if not is_file and name not in CHECKPOINTS and not name.endswith((".pt", ".pth")):
        raise UserError(f"model is {name!r}, but must be a file or one of {', '.join(CHECKPOINTS)}.")
    path = Path(name_or_path) if is_file or name not in CHECKPOINTS else installed_checkpoint(name)
    weights = _read(path)
    try:
        model = build_sam2_base(identify_backbone(weights), image_size)
    except ValueError as error:  # the image size
        raise UserError(str(error)) from error
    own = model.state_dict()
    wrong = [key for key, value in own.items() if key not in weights or weights[key].shape != value.shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path} lacks {', '.join(wrong[:3])}{more}, or has them in another shape: prompts need a whole SAM 2 "
            "checkpoint, such as the official ones or MedSAM2's."
        )
    model.load_state_dict({key: weights[key] for key in own})
    return model.eval()


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a SAM 2 checkpoint.

    What this project's trainers train segments without prompts: its decoder has a token for each class instead of
    SAM 2's, its memory encoder takes all classes at once, and it has no prompt encoder, mask quality or object
    presence. Filling these from SAM 2 would put together parts that never learned to work together. Its predictions can
    be corrected here instead: they are mask prompts.

    Raises:
        UserError: it is none.
    """
    try:
        return read_checkpoint(path)
    except UserError:
        if path.is_file() and _is_nnunet_checkpoint(path):
            raise UserError(
                f"{path} is a model that segments without prompts, and has no part that takes them: predict with "
                "nnUNetv2_predict, and correct the result with SAM 2's weights, for example with `sam2_3dmed segment "
                "--mask PREDICTION`."
            ) from None
        raise


def _is_nnunet_checkpoint(path: Path) -> bool:
    try:
        return "network_weights" in load_checkpoint(path)
    except UserError:
        return False


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """A CUDA device where there is one, else the CPU; or the one that is named.

    Raises:
        UserError: it is no device, or this machine has none of the kind.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device is {str(device)!r}, but must be auto, cpu, cuda or cuda:N.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device is {str(device)!r}, but torch finds no CUDA device here: take cpu.")
    return chosen
