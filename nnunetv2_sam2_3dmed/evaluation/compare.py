"""Compares any number of methods, case by case, on one nnU-Net dataset."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from tqdm import tqdm

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cache import FOLDER, CachedEvaluator
from nnunetv2_sam2_3dmed.evaluation.cases import Case, CaseEvaluator
from nnunetv2_sam2_3dmed.evaluation.folds import spread_over_folds
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.evaluation.latex import as_latex
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.model_selection import chosen_by_scored_cases
from nnunetv2_sam2_3dmed.evaluation.nnunet_summary import check_summaries
from nnunetv2_sam2_3dmed.evaluation.prompted import prompts_of
from nnunetv2_sam2_3dmed.evaluation.published import pair_with_published
from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.sources import share_cases
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison, compare_with, rank_methods, summarize
from nnunetv2_sam2_3dmed.evaluation.tables import as_csv, as_json, as_markdown, as_summary_csv
from nnunetv2_sam2_3dmed.evaluation.tolerance import nsd_tolerance
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.integrity import check_lengths


def default_processes() -> int:
    """Number of worker processes, unless the caller states one."""
    return min(8, os.cpu_count() or 1)


def compare(
    methods: Mapping[str, Sequence[Path]],
    truth_folder: Path,
    dataset_json: Mapping[str, Any],
    output_folder: Path,
    tolerance_mm: float | None = None,
    processes: int | None = None,
    seconds: Mapping[str, float] | None = None,
    progress: bool = True,
    dataset_name: str | None = None,
    reference: str | None = None,
    published: str | None = None,
) -> Comparison:
    """Scores every case that all methods share and writes the result.

    ``output_folder`` gets ``per_case.csv``, ``summary.csv``, ``comparison.json``, ``comparison.md`` and
    ``comparison.tex``; older ones are replaced. Scores are kept in its folder ``.cache`` as they are computed, and
    taken from there when the same files are compared again. Nothing is printed but the progress bar; the table is
    :func:`~nnunetv2_sam2_3dmed.evaluation.tables.as_markdown` of the result. With more than one process,
    workers are spawned: a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        methods: the folders of each method's predictions, by its name; several, such as one per fold, are
            pooled.
        truth_folder: the folder of the true segmentations, named as the predictions are.
        dataset_json: the content of nnU-Net's ``dataset.json``; labels or regions, ignore label, file ending
            and reader are taken from it.
        output_folder: where the result goes; made if it does not exist.
        tolerance_mm: the tolerance of NSD in mm; default: see
            :func:`~nnunetv2_sam2_3dmed.evaluation.tolerance.nsd_tolerance` of ``dataset_name``.
        processes: number of worker processes; 1 works in this process; None takes
            :func:`default_processes`.
        seconds: a time per method to show beside its scores.
        progress: whether to show a progress bar on stderr.
        dataset_name: the dataset's name in the report; default: the ``name`` in ``dataset_json``.
        reference: the method that the paired tests are against; default: the first.
        published: the network of nnU-Net's published per-case results to pair the methods with, if any; needs
            ``dataset_name``.

    Raises:
        UserError: if predictions or truth are missing, unreadable, or not on the same voxel grid, or the output
            folder cannot be made.
    """
    processes = default_processes() if processes is None else processes
    if not methods:
        raise UserError("no methods were given, expected at least one: name the predictions to compare.")
    if processes < 1:
        raise UserError(f"the number of processes is {processes}, expected 1 or more.")
    tolerance = nsd_tolerance(dataset_name, tolerance_mm)
    reference = next(iter(methods)) if reference is None else reference
    if reference not in methods:
        raise UserError(f"the reference is {reference!r}, expected one of the methods: {', '.join(methods)}.")
    shared = share_cases(methods, truth_folder, dataset_json["file_ending"])
    check_lengths(file for case in shared.cases for file in (case.truth, *case.predictions.values()))
    classes, ignored = foreground_classes(dataset_json), ignore_label(dataset_json)
    evaluator = CaseEvaluator(classes, ignored, _reader(dataset_json, shared.cases[0].truth), tolerance.mm)
    _make(output_folder)

    scores: dict[str, dict[str, dict[str, MaskMetrics]]] = {method: {} for method in methods}
    evaluated = _evaluate(CachedEvaluator(evaluator, output_folder / FOLDER), shared.cases, processes)
    bar = tqdm(evaluated, desc="cases", total=len(shared.cases), disable=not progress)
    for case, by_method in zip(shared.cases, bar, strict=True):
        for method, by_class in by_method.items():
            scores[method][case.name] = by_class

    comparison = Comparison(
        dataset_name=dataset_name or dataset_json.get("name", "an unnamed dataset"),
        methods=methods,
        truth_folder=truth_folder,
        classes=classes,
        ignore_label=ignored,
        tolerance_mm=tolerance.mm,
        scores=scores,
        missing=shared.missing,
        rows=summarize(scores, seconds),
        tests=compare_with(reference, scores),
        ranks=rank_methods(scores),
        published=pair_with_published(dataset_name or "", scores, classes, published) if published else (),
        tolerance_source=tolerance.source,
        folds=spread_over_folds(methods, shared.cases, scores),
        nnunet_checks=check_summaries(shared.cases, scores, classes),
        prompted={method: told for method, folders in methods.items() if (told := prompts_of(folders))},
        chosen_by_scored_cases=chosen_by_scored_cases(methods),
    )
    write(comparison, output_folder)
    return comparison


def _reader(dataset_json: Mapping[str, Any], example: Path) -> BaseReaderWriter:
    """The reader that nnU-Net itself uses for the dataset of which ``example`` is a file."""
    try:
        return determine_reader_writer_from_dataset_json(dict(dataset_json), example_file=str(example), verbose=False)()
    except RuntimeError as error:
        raise UserError(
            f"{example} cannot be read by any of nnU-Net's readers: replace it, or name the reader as "
            "overwrite_image_reader_writer in dataset.json."
        ) from error


def _evaluate(
    evaluator: CachedEvaluator, cases: Sequence[Case], processes: int
) -> Iterator[dict[str, dict[str, MaskMetrics]]]:
    """The scores of ``cases`` in their order."""
    processes = min(processes, len(cases))
    if processes == 1:
        yield from map(evaluator, cases)
        return
    # spawned, not forked: the caller may hold CUDA or threads
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(evaluator, cases)
    except BrokenProcessPool as error:
        raise UserError(
            f"one of {processes} worker processes was killed, probably for want of memory: use fewer."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the output folder {folder} cannot be made ({error}): give another with -o.") from error


def write(comparison: Comparison, output_folder: Path) -> None:
    """Writes the tables of a comparison, each file replaced as a whole."""
    contents = {
        "per_case.csv": as_csv(comparison),
        "summary.csv": as_summary_csv(comparison),
        "comparison.json": as_json(comparison, software_and_machine()),
        "comparison.md": as_markdown(comparison),
        "comparison.tex": as_latex(comparison),
    }
    for name, content in contents.items():
        write_text(output_folder / name, content)
