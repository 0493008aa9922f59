"""nnU-Net's environment variables: its three folders, and its search path for trainers."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
EXT_TRAINER = "nnUNet_extTrainer"


def trainers_folder() -> str:
    """Return the folder that ``nnUNet_extTrainer`` must name.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec("nnunetv2_sam2_3dmed.trainers")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the folder with the trainers (nnunetv2_sam2_3dmed.trainers) is not installed: "
            "install the package with `pip install nnunetv2-sam2-3dmed`."
        )
    return str(Path(next(iter(spec.submodule_search_locations))).resolve())


def search_path(*more: Path) -> str:
    """Return the value of ``nnUNet_extTrainer``: our trainers, the folders that it names already, and ``more``."""
    folders = [trainers_folder(), *os.environ.get(EXT_TRAINER, "").split(os.pathsep), *map(str, more)]
    return os.pathsep.join(dict.fromkeys(folder for folder in folders if folder))
