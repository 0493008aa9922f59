"""Print the shell lines that let nnU-Net find our trainers, for `eval "$(sam2_3dmed env)"`.

Always sets nnUNet_extTrainer (our trainers in front of any folder that is set already). Each of
nnUNet_raw, nnUNet_preprocessed and nnUNet_results that is not set yet is set to a folder of that name
under --base; folders that you have set are left alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, NNUNET_FOLDERS, search_path
from nnunetv2_sam2_3dmed.nnunet.folders import check_nnunet_version


def environment(base: Path) -> dict[str, str]:
    """Return the variables to export, given those that are set now."""
    folders = {name: str(base.resolve() / name) for name in NNUNET_FOLDERS if not os.environ.get(name)}
    return {EXT_TRAINER: search_path(), **folders}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        type=Path,
        default=Path.home() / "nnunet",
        help="where nnU-Net's three folders go if they are not set yet (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    check_nnunet_version()
    for name, value in environment(args.base).items():
        print(f"export {name}={shlex.quote(value)}")
