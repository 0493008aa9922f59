"""Preprocesses what is new in a dataset with the plans that there are."""

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

FILES = (".b2nd", "_seg.b2nd", ".pkl")  # that nnU-Net makes of a case, in the order in which they are put in place


def data_folder(folder: Path, plans: dict[str, Any], configuration: str) -> Path:
    """Where the preprocessed cases of a configuration lie in ``folder``, the dataset's in nnUNet_preprocessed."""
    return folder / PlansManager(plans).get_configuration(configuration).data_identifier


def check_experts(into: Path, cases: Sequence[str]) -> None:
    """That nnU-Net has preprocessed the cases that are trained on and validated against anyway.

    Args:
        into: the folder of preprocessed cases.
        cases: the experts' of a fold.

    Raises:
        UserError: a file is missing, or the folder is one of an older nnU-Net.
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
    """Preprocesses those of the cases whose label is another than the one that was preprocessed.

    Plans, fingerprint and all other cases stay as they are: intensities of the new ones do not enter the
    normalisation, which the checkpoint has learned with. A training that is running finds all files at any time.

    Args:
        dataset: with the raw files.
        folder: the dataset's in nnUNet_preprocessed.
        plans: the content of nnUNetPlans.json.
        configuration: of these plans.
        labels: the cases that may be new, with the checksums of their labels in the record.
        processes: how many cases at once.
        progress: told of each case.

    Returns:
        The cases that were preprocessed.

    Raises:
        UserError: a process was killed.
    """
    into = data_folder(folder, plans, configuration)
    # not in the folder: nnU-Net takes no other kind of file there
    note = folder / f"{into.name}.annotations.json"
    known = read_json(note, "delete it") if note.is_file() else {}
    truths = {case: folder / "gt_segmentations" / f"{case}{dataset.ending}" for case in labels}
    new = [
        case
        for case in labels
        if known.get(case) != labels[case] or not truths[case].is_file() or not _is_whole(into, case)
    ]
    content = {**read_json(folder / "dataset.json"), "numTraining": len(dataset.cases())}
    beside = folder / f".{into.name}.new"
    shutil.rmtree(beside, ignore_errors=True)  # left by one that was killed
    beside.mkdir(parents=True)
    try:
        jobs = [
            (dataset.image(case), dataset.label(case), beside / case, plans, configuration, content) for case in new
        ]
        for number, case in enumerate(_done(jobs, processes), start=1):
            known.pop(case, None)  # while its files are replaced, they are those of no label
            write_text(note, json.dumps(known, indent=2))
            for ending in FILES:
                os.replace(beside / f"{case}{ending}", into / f"{case}{ending}")
            copy_file(dataset.label(case), truths[case])
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
    """Names of the cases, as they are done."""
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
    """nnU-Net's preprocessing of one case.

    Raises:
        UserError: its files are not whole, or those that it becomes cannot be written.
    """
    check_files([image, label])
    manager = PlansManager(plans)
    configured = manager.get_configuration(configuration)
    preprocessor = configured.preprocessor_class(verbose=False)
    try:
        preprocessor.run_case_save(str(into), [str(image)], str(label), manager, configured, dataset_json)
    except (OSError, RuntimeError) as error:  # blosc2 does not say why it could not write
        free = shutil.disk_usage(into.parent).free / 2**30
        raise UserError(
            f"{into.name} cannot be preprocessed into {into.parent}, where {free:.1f} GiB are free ({error}): make "
            "room, or mend the case, and run the same command again."
        ) from error
    return into.name
