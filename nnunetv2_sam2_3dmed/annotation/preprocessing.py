"""Preprocessing of new cases with a dataset's existing plans."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.raw_files import check_files
from nnunetv2_sam2_3dmed.processes import spawned

FILES = (".b2nd", "_seg.b2nd", ".pkl")  # nnU-Net's files of a case, in the order in which they are moved


def data_folder(folder: Path, plans: dict[str, Any], configuration: str) -> Path:
    """Return the folder of a configuration's cases in ``folder``, the dataset's folder in nnUNet_preprocessed."""
    return folder / PlansManager(plans).get_configuration(configuration).data_identifier


def check_preprocessed(into: Path, cases: Sequence[str]) -> None:
    """Check that nnU-Net has preprocessed the cases of a fold.

    Args:
        into: the folder of preprocessed cases.
        cases: case identifiers.

    Raises:
        UserError: a file is missing, or the folder was written by an older nnU-Net.
    """
    if any(into.glob("*.npz")):
        raise UserError(
            f"{into} holds .npz files of an older nnU-Net, beside which it would not find new cases: delete the folder "
            "and run `nnUNetv2_preprocess` again."
        )
    for case in cases:
        for ending in FILES:
            if not (into / f"{case}{ending}").is_file():
                raise UserError(
                    f"there is no {into / f'{case}{ending}'}, but the fold has the case {case}: run "
                    "`nnUNetv2_preprocess` for this configuration."
                )


def preprocess_new(
    dataset: RawDataset,
    folder: Path,
    plans: dict[str, Any],
    configuration: str,
    labels: Mapping[str, str],
    processes: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Preprocess the cases whose label has changed since their last preprocessing.

    Plans, fingerprint and all other cases stay unchanged: the intensities of new cases do not enter the normalisation
    with which the checkpoint was trained. A running training finds all files at any time.

    Args:
        dataset: dataset with the raw files.
        folder: the dataset's folder in nnUNet_preprocessed.
        plans: content of nnUNetPlans.json.
        configuration: configuration of these plans.
        labels: checksums of the recorded labels by case.
        processes: number of processes.
        progress: callback for one line per case.

    Returns:
        The preprocessed cases.

    Raises:
        UserError: a process was killed.
    """
    into = data_folder(folder, plans, configuration)
    # not in the folder, where nnU-Net allows no other kind of file
    note = folder / f"{into.name}.annotations.json"
    known = read_json(note, "delete it") if note.is_file() else {}
    gt_files = {case: folder / "gt_segmentations" / f"{case}{dataset.ending}" for case in labels}
    new = [
        case
        for case in labels
        if known.get(case) != labels[case] or not gt_files[case].is_file() or not _is_whole(into, case)
    ]
    content = {**read_json(folder / "dataset.json"), "numTraining": len(dataset.cases())}
    beside = folder / f".{into.name}.new"
    shutil.rmtree(beside, ignore_errors=True)  # left by a killed process
    beside.mkdir(parents=True)
    try:
        jobs = [
            (dataset.image(case), dataset.label(case), beside / case, plans, configuration, content) for case in new
        ]
        for number, case in enumerate(_done(jobs, processes), start=1):
            known.pop(case, None)  # while its files are replaced, they belong to no label
            write_text(note, json.dumps(known, indent=2))
            for ending in FILES:
                os.replace(beside / f"{case}{ending}", into / f"{case}{ending}")
            copy_file(dataset.label(case), gt_files[case])
            known[case] = labels[case]
            write_text(note, json.dumps(known, indent=2))
            progress(f"preprocessed {number}/{len(new)} {case}")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    write_text(folder / "dataset.json", json.dumps(content, indent=4))
    return new


def _is_whole(into: Path, case: str) -> bool:
    return all((into / f"{case}{ending}").is_file() for ending in FILES)


def _done(jobs: Sequence[tuple], processes: int) -> Iterator[str]:
    """Yield the cases as they are done."""
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield _preprocess(*job)
        return
    with spawned(processes, "-np") as pool:
        for future in as_completed([pool.submit(_preprocess, *job) for job in jobs]):
            yield future.result()


def _preprocess(
    image: Path, label: Path, into: Path, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> str:
    """Run nnU-Net's preprocessing on one case.

    Raises:
        UserError: its files are incomplete, or its preprocessed files cannot be written.
    """
    check_files([image, label])
    manager = PlansManager(plans)
    configured = manager.get_configuration(configuration)
    preprocessor = configured.preprocessor_class(verbose=False)
    try:
        preprocessor.run_case_save(str(into), [str(image)], str(label), manager, configured, dataset_json)
    except (OSError, RuntimeError) as error:  # blosc2 gives no reason
        free = shutil.disk_usage(into.parent).free / 2**30
        raise UserError(
            f"{into.name} cannot be preprocessed into {into.parent}, where {free:.1f} GiB are free ({error}): free "
            "space, or correct the case, and run the same command again."
        ) from error
    return into.name
