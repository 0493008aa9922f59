"""SAM 2 with its prompt encoder, from the same checkpoint files that trainings start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import (
    CHECKPOINTS,
    identify_backbone,
    installed_checkpoint,
    read_checkpoint,
)
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base, build_sam2_base
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint

DEFAULT_MODEL = "MedSAM2_latest"
DEFAULT_IMAGE_SIZE = 512  # what MedSAM2 was fine-tuned at


def load_model(name_or_path: str | Path = DEFAULT_MODEL, image_size: int | None = None) -> SAM2Base:
    """Build the network of a checkpoint and load all of its weights.

    Args:
        name_or_path: an installed checkpoint (``sam2_3dmed weights``), such as "MedSAM2_latest" or
            "sam2.1_hiera_tiny", a file in SAM 2's official format, or a checkpoint of nnU-Net that
            ``SAM2_PromptTrainer`` or a variant of it has trained.
        image_size: side in pixels to which slices are resized, a multiple of 32. MedSAM2 was trained at 512, SAM 2 at
            1024, where a slice costs more than four times as much. Default: that of the training in nnU-Net, else 512.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        UserError: the checkpoint is not there, cannot be read, or lacks a part that prompts need.
    """
    path = model_file(name_or_path)
    trained = nnunet_checkpoint(path)
    if trained is not None:
        return _trained_within_nnunet(trained, path, image_size)
    weights = read_checkpoint(path)
    size = DEFAULT_IMAGE_SIZE if image_size is None else image_size
    try:
        model: SAM2Base = build_sam2_base(identify_backbone(weights, path), size)
    except ValueError as error:  # the image size
        raise UserError(str(error)) from error
    fill(model, weights, path)
    return model.eval()


def model_file(name_or_path: str | Path) -> Path:
    """Return the file that :func:`load_model` reads; a given path need not exist.

    Raises:
        UserError: the name is neither a file nor a checkpoint, or that checkpoint is not installed.
    """
    name = str(name_or_path)
    is_file = Path(name_or_path).is_file()
    if not is_file and name not in CHECKPOINTS and not name.endswith((".pt", ".pth")):
        raise UserError(f"model is {name!r}, but must be a file or one of {', '.join(CHECKPOINTS)}.")
    return Path(name_or_path) if is_file or name not in CHECKPOINTS else installed_checkpoint(name)


def fill(model: SAM2Base, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load all weights of ``model``.

    Raises:
        UserError: ``weights``, of the file ``path``, lack some of its tensors, or have them in another shape.
    """
    own = model.state_dict()
    wrong = [key for key, value in own.items() if key not in weights or weights[key].shape != value.shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path} lacks {', '.join(wrong[:3])}{more}, or has them in another shape: prompts need a whole SAM 2 "
            "checkpoint, such as the official ones or MedSAM2's."
        )
    model.load_state_dict({key: weights[key] for key in own})


def _trained_within_nnunet(checkpoint: dict[str, Any], path: Path, image_size: int | None) -> SAM2Base:
    """Build the model of a checkpoint of nnU-Net.

    Our other trainers' models segment without prompts: their decoder has a token for each class instead of SAM 2's,
    their memory encoder takes all classes at once, and they have no prompt encoder, mask quality or object presence.
    Filling these from SAM 2 would combine parts that were not trained together. Their predictions can be corrected
    instead, as mask prompts.

    Raises:
        UserError: the model takes no prompts.
    """
    # nnU-Net takes a second to import, which sessions on SAM 2's own weights need not wait for
    from nnunetv2_sam2_3dmed.interactive.trained_model import takes_prompts, trained_model

    if not takes_prompts(checkpoint):
        raise UserError(
            f"{path} is a model that segments without prompts, and has no part that takes them: predict with "
            "nnUNetv2_predict, and correct the result with SAM 2's weights, for example with `sam2_3dmed segment "
            "--mask PREDICTION`."
        )
    return trained_model(checkpoint, path, image_size)


def nnunet_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint of nnU-Net; None if the file is something else."""
    if not path.is_file():
        return None
    try:
        content = load_checkpoint(path)
    except UserError:
        return None
    return content if "network_weights" in content else None


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the named device; for "auto", a CUDA device where there is one, else the CPU.

    "cuda" becomes the current CUDA device with its number, since the current one may change later.

    Raises:
        UserError: the name is no device, or this machine has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device is {str(device)!r}, but must be auto, cpu, cuda or cuda:N.") from error
    if chosen.type == "cpu":
        return chosen
    if chosen.type != "cuda":  # others lack kernels or autocast
        raise UserError(f"device is {str(device)!r}, but must be auto, cpu, cuda or cuda:N.")
    if not torch.cuda.is_available():
        raise UserError(f"device is {str(device)!r}, but torch finds no CUDA GPU here: use `cpu` (`-device cpu`).")
    index = torch.cuda.current_device() if chosen.index is None else chosen.index
    if index >= torch.cuda.device_count():
        raise UserError(f"device is {str(device)!r}, but the last CUDA device here is {torch.cuda.device_count() - 1}.")
    return torch.device("cuda", index)
