"""Print the shell lines that let nnU-Net find our trainers, for `eval "$(sam2_3dmed env)"`.

Always sets nnUNet_extTrainer (our trainers in front of any folder that is set already). Each of
nnUNet_raw, nnUNet_preprocessed and nnUNet_results that is not set yet is set to a folder of that name
under --base; folders that you have set are left alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
from importlib.util import find_spec
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet_folders import check_nnunet_version

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def trainers_folder() -> str:
    """The folder that ``nnUNet_extTrainer`` must name."""
    spec = find_spec("nnunetv2_sam2_3dmed.trainers")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the folder with the trainers (nnunetv2_sam2_3dmed.trainers) is not installed: "
            "install the package with `pip install nnunetv2-sam2-3dmed`."
        )
    return str(Path(next(iter(spec.submodule_search_locations))).resolve())


def environment(base: Path) -> dict[str, str]:
    """The variables to export, given those that are set now."""
    ours = trainers_folder()
    others = [p for p in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if p and p != ours]
    exports = {"nnUNet_extTrainer": os.pathsep.join([ours, *others])}
    for name in NNUNET_FOLDERS:
        if not os.environ.get(name):
            exports[name] = str(base.resolve() / name)
    return exports


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
