"""Validation of an experiment before anything runs: mistakes at which nnU-Net would fail hours later."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.specification import Method, Specification
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, gt_folder, load_dataset_json, nnunet_folder

DEFAULT_FOLDS = 5  # nnU-Net's
# plans -> the planner that makes them
PLANNERS = {f"nnUNetResEncUNet{size}Plans": f"nnUNetPlannerResEnc{size}" for size in ("M", "L", "XL")}
OURS = ("3d", "3d_slices3", "3d_slices6", "3d_slices8")  # configurations that `sam2_3dmed plan` adds


def check_datasets(specification: Specification) -> list[str]:
    """Return the full names of the datasets.

    Raises:
        UserError: one is unknown, or given by number and by name.
    """
    names = [dataset_name(dataset) for dataset in specification.datasets]
    for name in names:
        if not re.fullmatch(r"Dataset\d{3}_.+", name):
            raise UserError(
                f"the dataset is {name!r}, expected a number or a name such as Dataset009_Spleen: correct it."
            )
        if names.count(name) > 1:
            raise UserError(f"{name} is in datasets twice, by number and by name, expected once: remove one.")
    return names


def check_configuration(dataset: str, method: Method) -> Path:
    """Return the folder of the data that a method trains on.

    Raises:
        UserError: plans, configuration or data are missing, or it is the second stage of a cascade.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    number = int(dataset[len("Dataset") :][:3])
    planner = PLANNERS.get(method.plans)
    wanted = "3d_fullres" if method.configuration in OURS else method.configuration
    remedy = f"`nnUNetv2_plan_and_preprocess -d {number} -c {wanted}{f' -pl {planner}' if planner else ''}`"
    folder = nnunet_folder("nnUNet_preprocessed") / dataset
    file = folder / f"{method.plans}.json"
    if not file.is_file():
        raise UserError(f"there is no {file}, expected the plans of {method.title}: run {remedy}.")
    plans = read_json(file)
    if method.configuration not in plans["configurations"]:
        if method.configuration in OURS:
            remedy = f"`sam2_3dmed plan -d {number}{'' if method.plans == 'nnUNetPlans' else f' -p {method.plans}'}`"
        raise UserError(
            f"{method.plans} of {dataset} has no configuration {method.configuration!r}, expected one of "
            f"{', '.join(plans['configurations'])}: run {remedy} to add it."
        )
    configuration = PlansManager(plans).get_configuration(method.configuration)
    if configuration.previous_stage_name is not None:
        raise UserError(
            f"{method.configuration!r} of {dataset} is the second stage of a cascade, expected a configuration that "
            "needs no other: train it by hand, after all folds of the first stage."
        )
    data = folder / configuration.data_identifier
    if not data.is_dir() or not any(data.iterdir()):
        raise UserError(f"{data} is missing or empty, expected the data of {method.title}: run {remedy}.")
    return data


def check_network(dataset: str, method: Method, trainer: type, trained: bool) -> None:
    """Check what our own trainers check when they start: that the plan is theirs and SAM 2's weights are installed.

    Args:
        dataset: full name.
        method: on ``dataset``, its configuration already checked.
        trainer: the method's.
        trained: all of its trainings have begun, so that they need SAM 2's file no more.

    Raises:
        UserError: the trainer would not start.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunetv2_sam2_3dmed.network.checkpoints import installed_checkpoint
    from nnunetv2_sam2_3dmed.training.checks import check_configuration, check_slices
    from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

    if not issubclass(trainer, SAM2_3dMedTrainer):
        return
    plans = read_json(nnunet_folder("nnUNet_preprocessed") / dataset / f"{method.plans}.json")
    check_configuration(plans, method.configuration, load_dataset_json(dataset), trainer.required_slices)
    check_slices(plans, method.configuration, method.trainer, trainer.required_slices)
    if trainer.pretrained and not trained:
        architecture = trainer.architecture_of(PlansManager(plans).get_configuration(method.configuration))
        installed_checkpoint(trainer.checkpoint or architecture["backbone"])


def check_seeded_names(trainer: str, seeds: Sequence[int]) -> None:
    """Refuse seeds whose trainer's name already belongs to another class, which nnU-Net would find first.

    Raises:
        UserError: there is such a class, or ``trainer`` has a seed already.
    """
    from nnunetv2_sam2_3dmed.training.names import find_trainer
    from nnunetv2_sam2_3dmed.training.seeding import Seeded

    for seed in seeds:
        found = find_trainer(f"{trainer}_seed{seed}")
        if not (issubclass(found, Seeded) and found.seed == seed):
            raise UserError(
                f"there is a trainer {found.__name__} already (in {found.__module__}), expected the name to be free "
                "for the one with the seed: rename it or leave seeds out."
            )


def check_folds(dataset: str, folds: Sequence[int], data: Path) -> None:
    """Refuse folds that are not in ``splits_final.json``, for which nnU-Net would draw a split of its own.

    Where nnU-Net has written no splits yet, they are written as it would: several first trainings that start at once
    would all write the file, and read it half written.

    Args:
        dataset: full name.
        folds: numbers.
        data: the folder of preprocessed cases.

    Raises:
        UserError: a fold is out of range, or cases of a fold are not preprocessed.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    cases = sorted(infer_dataset_class(str(data)).get_identifiers(str(data)))
    file = data.parent / "splits_final.json"
    ending = load_dataset_json(dataset)["file_ending"]
    if file.is_file():
        splits = read_json(file)
    else:
        expected = {path.name.removesuffix(ending) for path in gt_folder(dataset).glob(f"[!.]*{ending}")}
        _check_cases(expected, cases, data)
        splits = generate_crossval_split(cases, n_splits=DEFAULT_FOLDS)
        splits = [{part: [str(case) for case in split[part]] for part in ("train", "val")} for split in splits]
        write_text(file, json.dumps(splits, indent=4))
    for fold in folds:
        if not 0 <= fold < len(splits):
            raise UserError(f"fold {fold} of {dataset} is out of range, expected 0 to {len(splits) - 1}: change folds.")
        _check_cases({*splits[fold]["train"], *splits[fold]["val"]}, cases, data)


def _check_cases(expected: set[str], present: Sequence[str], data: Path) -> None:
    missing = sorted(expected - set(present))
    if missing:
        raise UserError(
            f"{data} lacks {len(missing)} of {len(expected)} cases, such as {missing[0]}, expected all of the dataset: "
            "run nnUNetv2_preprocess again."
        )
