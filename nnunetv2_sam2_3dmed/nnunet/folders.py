"""nnU-Net's version and folders: plans, validation predictions, ground truth, ``dataset.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_declared_labels

OLDEST_NNUNET = (2, 8)  # the first with nnUNet_extTrainer
_BEGUN = "begun.json"
PLAN_AGAIN = "let `nnUNetv2_plan_and_preprocess` write it again"


def check_nnunet_version() -> None:
    """Refuse a version of nnU-Net that does not search for trainers outside its own package.

    Raises:
        UserError: nnunetv2 is older than 2.8.
    """
    installed = version("nnunetv2")
    if tuple(int(part) for part in installed.split(".")[:2]) < OLDEST_NNUNET:
        raise UserError(
            f"nnunetv2 is {installed}, but nnUNet_extTrainer, through which nnU-Net finds our trainers, exists "
            f"since 2.8.0: run `pip install 'nnunetv2>=2.8.1,<2.9'`."
        )


def nnunet_folder(variable: str) -> Path:
    """Return the folder that the environment variable ``variable`` names.

    Raises:
        UserError: the variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set, expected the path of that nnU-Net folder: "
            'export it, or run eval "$(sam2_3dmed env)".'
        )
    return Path(value)


def dataset_name(name_or_id: str) -> str:
    """Return a dataset's full name, such as ``Dataset009_Spleen``, from that name or its number.

    Raises:
        UserError: nnU-Net does not find exactly one such dataset, or none of its folders is set.
    """
    if not any(os.environ.get(v) for v in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")):
        nnunet_folder("nnUNet_preprocessed")  # says that it is not set
    # imports torch, which `sam2_3dmed env` need not wait for
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    try:
        return str(maybe_convert_to_dataset_name(name_or_id))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"dataset {name_or_id!r} is not known, expected the number or name of one dataset in nnU-Net's "
            "folders: check -d and the variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results."
        ) from error


def check_new_dataset(folder: Path, ending: str, cases: Collection[str]) -> None:
    """Check that a folder of nnUNet_raw can become a dataset: it is new, or was begun with the same cases.

    Args:
        folder: of the dataset.
        ending: of its files.
        cases: identifiers of all its cases.

    Raises:
        UserError: the dataset is complete, or has files of other cases.
    """
    if (folder / "dataset.json").exists():
        raise UserError(f"{folder} exists already: give another number and name, or delete it.")
    begun = {file.name.removesuffix(ending) for file in (folder / "labelsTr").glob(f"[!.]*{ending}")}
    others = sorted(begun - set(cases))
    if others:
        raise UserError(
            f"{folder} was begun with another case, {others[0]}: delete the folder, and run the same command again."
        )


def begin_dataset(folder: Path, content: Mapping[str, Any]) -> None:
    """Note what a new dataset is going to be, so that an interrupted command goes on with nothing else.

    Cases are written before ``dataset.json``, whose labels and channels say how their numbers are meant.

    Args:
        folder: of the dataset.
        content: of its dataset.json; see :func:`finish_dataset`.

    Raises:
        UserError: cases were written for another content, or the folder cannot be written to.
    """
    file = folder / _BEGUN
    text = json.dumps(content, indent=4) + "\n"
    written = any((folder / "labelsTr").glob("[!.]*"))
    if written and (not file.is_file() or file.read_text(encoding="utf-8") != text):
        raise UserError(
            f"{folder} was begun with other labels, channels or sources: delete the folder, and run the same command "
            "again."
        )
    write_text(file, text)


def finish_dataset(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the ``dataset.json`` of a dataset whose cases are all written.

    Raises:
        UserError: it cannot be written.
    """
    write_text(folder / "dataset.json", json.dumps(content, indent=4) + "\n")
    (folder / _BEGUN).unlink()


def load_dataset_json(dataset: str) -> dict[str, Any]:
    """Read a dataset's ``dataset.json``, the preprocessed or else the raw one.

    Raises:
        UserError: neither folder has one, or :func:`read_dataset_json` refuses it.
    """
    variables = [v for v in ("nnUNet_preprocessed", "nnUNet_raw") if os.environ.get(v)]
    files = [nnunet_folder(v) / dataset / "dataset.json" for v in variables or ["nnUNet_preprocessed"]]
    for file in files:
        if file.is_file():
            return read_dataset_json(file, "correct it, or take that of nnUNet_raw")
    raise UserError(
        f"dataset {dataset} has no dataset.json (looked for {', '.join(map(str, files))}): check -d and "
        "nnU-Net's environment variables."
    )


def read_dataset_json(file: Path, remedy: str) -> dict[str, Any]:
    """Read and check a ``dataset.json``.

    Args:
        file: the file.
        remedy: advice for a damaged file.

    Raises:
        UserError: the file is damaged, the file ending is missing, or the labels cannot be read, see
            :func:`~nnunetv2_sam2_3dmed.nnunet.dataset_labels.check_declared_labels`.
    """
    content = read_json(file, remedy)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, expected nnU-Net's description of a dataset.")
    ending = content.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise UserError(f"{file} has the file_ending {ending!r}, but it must be one such as '.nii.gz': correct it.")
    check_declared_labels(str(file), content)
    return content


def read_plans(dataset: str, plans: str) -> tuple[Path, dict[str, Any]]:
    """Return the file with a dataset's plans and its content.

    Args:
        dataset: the dataset's full name.
        plans: the plans' name, such as ``nnUNetPlans``.

    Raises:
        UserError: the dataset was not planned, or the file is damaged.
    """
    file = nnunet_folder("nnUNet_preprocessed") / dataset / f"{plans}.json"
    if not file.is_file():
        raise UserError(
            f"there is no {file}: run `nnUNetv2_plan_and_preprocess -d {dataset} -c 3d_fullres` first, or name other "
            "plans with -p."
        )
    return file, read_plans_file(file, PLAN_AGAIN)


def read_plans_file(file: Path, remedy: str) -> dict[str, Any]:
    """Read plans of nnU-Net and check their names and configurations.

    Args:
        file: the file.
        remedy: advice for a damaged file.

    Raises:
        UserError: the file is damaged.
    """
    content = read_json(file, remedy)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, expected nnU-Net's plans: {remedy}.")
    for key, kind, expected in (
        ("dataset_name", str, "a name"),
        ("plans_name", str, "a name"),
        ("configurations", dict, "configurations by their names"),
    ):
        if not isinstance(content.get(key), kind) or content[key] == "":
            raise UserError(f"{key!r} is {content.get(key)!r} in {file}, expected {expected}: {remedy}.")
    return content


def gt_folder(dataset: str) -> Path:
    """Return the folder with the ground truth that nnU-Net itself validates against.

    Raises:
        UserError: the dataset was not preprocessed here.
    """
    folder = nnunet_folder("nnUNet_preprocessed") / dataset / "gt_segmentations"
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist, expected the ground truth: run nnUNetv2_plan_and_preprocess, or "
            "give their folder with --gt."
        )
    return folder


def validation_folders(results_folder: Path, folds: Sequence[str]) -> list[Path]:
    """Return the folders with the validation predictions of ``folds``.

    Args:
        results_folder: a folder ``TRAINER__PLANS__CONFIG``.
        folds: fold numbers, or ``all``.

    Raises:
        UserError: a fold was not validated.
    """
    if not results_folder.is_dir():
        raise UserError(
            f"{results_folder} does not exist, expected a results folder TRAINER__PLANS__CONFIG of nnU-Net: "
            "train the model, or give predictions as NAME=FOLDER."
        )
    folders = [results_folder / f"fold_{fold}" / "validation" for fold in folds]
    for fold, folder in zip(folds, folders, strict=True):
        if not folder.is_dir():
            raise UserError(
                f"{folder} does not exist, expected the validation predictions of fold {fold}: run "
                "nnUNetv2_train for this model and fold, with --val if it is trained already."
            )
    return folders


def validated_results_folders(dataset: str, folds: Sequence[str]) -> list[Path]:
    """Return the results folders in which all ``folds`` are validated, nnU-Net's own 3d_fullres first.

    nnU-Net writes ``summary.json`` last: a validation that is under way does not count.

    Raises:
        UserError: there is none.
    """
    folder = nnunet_folder("nnUNet_results") / dataset
    found = [
        f
        for f in (folder.iterdir() if folder.is_dir() else [])
        if len(f.name.split("__")) == 3
        and all((f / f"fold_{fold}" / "validation" / "summary.json").is_file() for fold in folds)
    ]
    if not found:
        raise UserError(
            f"{folder} holds no results folder TRAINER__PLANS__CONFIG with validation predictions of fold "
            f"{' and '.join(folds)}: run nnUNetv2_train, with --val if the model is trained already."
        )
    return sorted(found, key=_order)


def _order(results_folder: Path) -> tuple:
    """Sort key; the first becomes the reference: nnU-Net's default, rather than its 2D network or a baseline."""
    trainer, plans, configuration = results_folder.name.split("__")
    return trainer != "nnUNetTrainer", configuration != "3d_fullres", trainer, plans, configuration
