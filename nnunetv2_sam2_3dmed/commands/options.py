"""Options that several commands share, spelt the same in all of them.

Options that nnU-Net has are spelt as nnU-Net spells them, with one dash (``-d``, ``-f``, ``-tr``, ``-device``); all
others have two.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError


def add_dataset(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add ``-d``, a dataset."""
    parser.add_argument("-d", dest="dataset", required=required, metavar="DATASET", help="dataset id or name")


def add_new_dataset(parser: argparse.ArgumentParser) -> None:
    """Add ``-d`` and ``--name`` of a dataset that does not exist yet."""
    parser.add_argument("-d", dest="dataset", type=int, required=True, metavar="ID", help="number, 1 to 999")
    parser.add_argument("--name", required=True, help="name, such as Echo in Dataset020_Echo")


def new_dataset_name(number: int, name: str) -> str:
    """Return the full name of a new dataset, such as ``Dataset020_Echo``.

    Raises:
        UserError: nnU-Net could not read number and name, or a dataset has that number.
    """
    if not 1 <= number <= 999:
        raise UserError(f"-d is {number}, but the number of a dataset must be 1 to 999.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"--name is {name!r}, but must be of letters, digits, '_' and '-', such as Echo.")
    full = f"Dataset{number:03d}_{name}"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = Path(os.environ.get(variable) or os.devnull)
        for other in sorted(folder.glob(f"Dataset{number:03d}_*")):
            if other.name != full:
                raise UserError(f"{variable} has {other.name} already: give another number than {number} with -d.")
    return full


def add_folds(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add ``-f``, any number of folds, by default fold 0."""
    parser.add_argument("-f", dest="folds", nargs="+", default=["0"], metavar="FOLD", help=f"{purpose} (default: 0)")


def add_plans(parser: argparse.ArgumentParser) -> None:
    """Add ``-p``, the name of nnU-Net's plans."""
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")


def add_prompted_model(parser: argparse.ArgumentParser) -> None:
    """Add the options of a model that takes prompts: ``--model``, ``--image-size``, ``-device``, ``--precision``."""
    parser.add_argument(
        "--model",
        default="MedSAM2_latest",
        help="an installed checkpoint (sam2_3dmed weights), or a file, such as the checkpoint_final.pth of a "
        "SAM2_PromptTrainer (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side to which slices are resized; SAM 2's own weights learned 1024 (default: 512, or that of the "
        "training within nnU-Net)",
    )
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``-device`` and ``--precision``."""
    parser.add_argument("-device", default="auto", help="auto, cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="bfloat16 or float32 (default: bfloat16 where the device has it)",
    )


def prepare_device(device: str) -> None:
    """Check ``-device`` of nnU-Net's commands, and set torch's number of threads as these do.

    Raises:
        UserError: it is cuda, but there is no GPU.
    """
    import torch  # which `sam2_3dmed env` need not wait for

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device is cuda, but torch finds no CUDA GPU here: add `-device cpu`.")
    # on a GPU, threads on the CPU bring nothing
    torch.set_num_threads(1 if device == "cuda" else torch.multiprocessing.cpu_count())


def add_axis(parser: argparse.ArgumentParser) -> None:
    """Add ``--axis``, along which an image is cut into slices."""
    parser.add_argument(
        "--axis",
        type=int,
        choices=(0, 1, 2),
        help="axis of the image's array along which the slices lie (default: as in the training of a model trained "
        "within nnU-Net, else 0, z)",
    )


def add_window(parser: argparse.ArgumentParser) -> None:
    """Add ``--window``, the intensities that are shown as black and white."""
    parser.add_argument(
        "--window",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="brain, abdomen, bone, lung, mediastinum, percentile, or a level and a width (default: what a model "
        "trained within nnU-Net has learned, otherwise abdomen for a CT, percentile for others)",
    )


def check_image_size(image_size: int | None) -> None:
    """Check ``--image-size`` before a model is loaded.

    Raises:
        UserError: it is no multiple of 32.
    """
    if image_size is not None and (image_size < 32 or image_size % 32):
        raise UserError(f"--image-size is {image_size}, but must be a multiple of 32, such as 512 or 1024.")
