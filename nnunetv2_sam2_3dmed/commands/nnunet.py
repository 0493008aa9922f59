"""nnU-Net's folders, datasets and version, with sentences for what may be wrong with them."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError

OLDEST_NNUNET = (2, 8)  # the first with nnUNet_extTrainer


def check_nnunet_version() -> None:
    """Raises UserError where nnU-Net is too old to find trainers outside of itself."""
    installed = version("nnunetv2")
    if tuple(int(part) for part in installed.split(".")[:2]) < OLDEST_NNUNET:
        raise UserError(
            f"nnunetv2 is {installed}, but nnUNet_extTrainer, through which nnU-Net finds our trainers, exists "
            f"since 2.8.0: run `pip install 'nnunetv2>=2.8.1,<2.9'`."
        )


def nnunet_folder(variable: str) -> Path:
    """The folder that one of nnU-Net's variables names.

    Raises:
        UserError: it is not set, or there is no such folder.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(f'{variable} is not set: run `eval "$(sam2_3dmed env)"`, or export it as nnU-Net asks.')
    if not Path(value).is_dir():
        raise UserError(f"{variable} is {value}, but there is no such folder: create it or set the variable anew.")
    return Path(value)


def dataset_name(name_or_id: str) -> str:
    """``DatasetXXX_Name`` for an id or a name.

    Raises:
        UserError: there is no such dataset, or the id belongs to several.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    if not name_or_id.startswith("Dataset") and not name_or_id.isdigit():
        raise UserError(f"the dataset is {name_or_id!r}, but must be an id such as 4 or a name such as Dataset004_X.")
    try:
        return maybe_convert_to_dataset_name(name_or_id if name_or_id.startswith("Dataset") else int(name_or_id))
    except RuntimeError as error:
        raise UserError(
            f"the dataset {name_or_id!r} is not (or more than once) in nnUNet_raw={os.environ.get('nnUNet_raw')}, "
            f"nnUNet_preprocessed={os.environ.get('nnUNet_preprocessed')} or "
            f"nnUNet_results={os.environ.get('nnUNet_results')}: check the id and these variables."
        ) from error


def read_json(path: Path) -> dict:
    """Reads a JSON file.

    Raises:
        UserError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no {path}: run `nnUNetv2_plan_and_preprocess` for this dataset first.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}): restore it or plan again.") from error
