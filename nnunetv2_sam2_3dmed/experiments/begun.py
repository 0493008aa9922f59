"""Refuse earlier runs that held out other cases or used other plans than the experiment."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json, nnunet_folder

HELD_OUT = ".sam2_3dmed_held_out.json"
PLANNED = ("patch_size", "batch_size", "spacing", "architecture")


def note_held_out(run: TrainingRun, results: Path) -> None:
    """Record which cases a new training holds out, since nnU-Net does so only when it validates."""
    if _splits_file(run).is_file():
        write_text(run.folder(results) / HELD_OUT, json.dumps(_held_out(run)) + "\n")


def check_begun(run: TrainingRun, results: Path) -> None:
    """Refuse a run that was begun with other plans, or holds out other cases, than the files say now.

    Args:
        run: on a dataset with plans and splits.
        results: ``nnUNet_results``.

    Raises:
        UserError: its plans or held-out cases are others.
    """
    state = run.state(results)
    if state is RunState.WAITING:
        return
    _check_plans(run, results)
    note = run.folder(results) / HELD_OUT
    if state is RunState.DONE:
        _check_cases(run, results, _validated(run, results))
    elif note.is_file():  # not where the training was begun by hand
        _check_cases(run, results, read_json(note))


def _check_plans(run: TrainingRun, results: Path) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = run.folder(results).parent
    if not (folder / "plans.json").is_file():  # nnU-Net writes it when a training starts; a copy may lack it
        return
    file = nnunet_folder("nnUNet_preprocessed") / run.dataset / f"{run.method.plans}.json"
    name = run.method.configuration
    then, now = read_json(folder / "plans.json"), read_json(file)
    if name not in then["configurations"]:
        raise UserError(f"{folder}/plans.json has no {name!r}, expected the trained one: rename or remove {folder}.")
    then, now = (PlansManager(plans).get_configuration(name).configuration for plans in (then, now))
    changed = [key for key in PLANNED if then.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        values = "" if key == "architecture" else f" ({key} {then.get(key)}, now {now.get(key)})"
        raise UserError(
            f"{folder} was trained with another {' and '.join(changed)} than {file} has for {name!r} now{values}, "
            "expected the same for all runs: rename or remove that folder, or put the plans back."
        )


def _check_cases(run: TrainingRun, results: Path, then: Collection[str]) -> None:
    now = _held_out(run)
    different = sorted(set(now).symmetric_difference(then))
    if different:
        folder = run.folder(results)
        raise UserError(
            f"{folder} held out {len(then)} cases, expected the {len(now)} that fold {run.fold} in "
            f"{_splits_file(run)} holds out now; {len(different)} are in only one of the two, such as {different[0]}: "
            f"rename or remove {folder.parent}, or put the split back that it was trained with."
        )


def _validated(run: TrainingRun, results: Path) -> set[str]:
    """Return the cases of a complete validation."""
    summary = read_json(run.folder(results) / "validation" / "summary.json")
    ending = load_dataset_json(run.dataset)["file_ending"]
    return {Path(case["prediction_file"]).name.removesuffix(ending) for case in summary.get("metric_per_case", ())}


def _held_out(run: TrainingRun) -> list[str]:
    return list(read_json(_splits_file(run))[run.fold]["val"])


def _splits_file(run: TrainingRun) -> Path:
    return nnunet_folder("nnUNet_preprocessed") / run.dataset / "splits_final.json"
