"""Preprocesses what is new in a dataset with the plans that there are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text, written_beside
from nnunetv2_sam2_3dmed.loop.raw_dataset import RawDataset

FILES = (".pkl", ".b2nd", "_seg.b2nd")  # that nnU-Net makes of a case; it writes the first one last


def preprocess_new(
    dataset: RawDataset,
    folder: Path,
    plans: dict[str, Any],
    configuration: str,
    cases: Sequence[str],
    processes: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Preprocesses those of ``cases`` whose label is newer than what nnU-Net has of them.

    Plans, fingerprint and all other cases stay as they are: intensities of the new ones do not enter the
    normalisation, which the checkpoint has learned with.

    Args:
        dataset: with the raw files.
        folder: the dataset's in nnUNet_preprocessed.
        plans: the content of nnUNetPlans.json.
        configuration: of these plans.
        cases: those that may be new.
        processes: how many cases at once.
        progress: told of each case.

    Returns:
        The cases that were preprocessed.

    Raises:
        UserError: a process was killed.
    """
    manager = PlansManager(plans).get_configuration(configuration)
    into = folder / manager.data_identifier
    new = [case for case in cases if _is_older(into / f"{case}.pkl", dataset.label(case))]
    content = {**read_json(folder / "dataset.json"), "numTraining": len(dataset.cases())}
    for case in new:
        for ending in FILES:  # nnU-Net replaces none
            (into / f"{case}{ending}").unlink(missing_ok=True)
    jobs = [(dataset.image(case), dataset.label(case), into / case, plans, configuration, content) for case in new]
    for number, case in enumerate(_done(jobs, processes), start=1):
        progress(f"preprocessed {number}/{len(new)} {case}")
    for case in cases:
        target = folder / "gt_segmentations" / f"{case}{dataset.ending}"
        if _is_older(target, dataset.label(case)):
            with written_beside(target, dataset.ending) as beside:
                shutil.copyfile(dataset.label(case), beside)
    write_text(folder / "dataset.json", json.dumps(content, indent=4))
    return new


def _is_older(file: Path, than: Path) -> bool:
    return not file.is_file() or file.stat().st_mtime < than.stat().st_mtime


def _done(jobs: Sequence[tuple], processes: int) -> Iterator[str]:
    """Names of the cases, as they are done."""
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield _preprocess(*job)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(_preprocess, *job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError("a process that preprocessed was killed, perhaps for memory: use fewer (-np).") from error


def _preprocess(
    image: Path, label: Path, into: Path, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> str:
    """nnU-Net's preprocessing of one case."""
    manager = PlansManager(plans)
    configured = manager.get_configuration(configuration)
    preprocessor = configured.preprocessor_class(verbose=False)
    preprocessor.run_case_save(str(into), [str(image)], str(label), manager, configured, dataset_json)
    return into.name
