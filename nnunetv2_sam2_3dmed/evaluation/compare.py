"""Comparison of any number of methods, case by case, on one nnU-Net dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from tqdm import tqdm

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.evaluation.cache import FOLDER, CachedEvaluator
from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, CaseScores, ComparedCase, find_image, share_cases
from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison, compare_with, rank_methods, summarize
from nnunetv2_sam2_3dmed.evaluation.comparison_files import (
    comparison_json,
    comparison_latex,
    comparison_markdown,
    per_case_csv,
    summary_csv,
)
from nnunetv2_sam2_3dmed.evaluation.folds import spread_over_folds
from nnunetv2_sam2_3dmed.evaluation.grids import NAMED, GridDifference
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.nnunet_validation import check_summaries, chosen_by_scored_cases
from nnunetv2_sam2_3dmed.evaluation.prompted import prompts_of
from nnunetv2_sam2_3dmed.evaluation.published import pair_with_published, published_dice
from nnunetv2_sam2_3dmed.evaluation.scores import score_table
from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.tolerance import nsd_tolerance
from nnunetv2_sam2_3dmed.files import check_writable_folder, write_text
from nnunetv2_sam2_3dmed.images.integrity import check_lengths
from nnunetv2_sam2_3dmed.processes import spawned


def default_processes() -> int:
    """Number of worker processes, unless the caller states one."""
    return min(8, os.cpu_count() or 1)


def compare(
    methods: Mapping[str, Sequence[Path]],
    gt_folder: Path,
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
    """Score every case that all methods share and write the result.

    ``output_folder`` gets ``per_case.csv``, ``summary.csv``, ``comparison.json``, ``comparison.md`` and
    ``comparison.tex``; older ones are replaced. Scores are kept in its folder ``.cache`` as they are computed, and
    taken from there when the same files are compared again. Nothing is printed but the progress bar; see
    :func:`~nnunetv2_sam2_3dmed.evaluation.comparison_files.comparison_markdown` for a table. With more than one
    process, workers are spawned: a script that calls this needs the usual ``if __name__ == "__main__":``.

    A case that cannot be scored is never left out: all others are scored, which keeps their scores, and then all such
    cases are named and nothing is written. Predictions of nnU-Net's own validation, and others on the grid of their
    image in nnUNet_raw, are compared voxel by voxel wherever the ground truth's header puts it, with a warning in all
    outputs; other predictions are refused more than a voxel away from the ground truth.

    Args:
        methods: the folders of each method's predictions, by its name; several, such as one per fold, are
            pooled.
        gt_folder: the folder of the ground truth, named as the predictions are.
        dataset_json: the content of nnU-Net's ``dataset.json``; labels or regions, ignore label, file ending
            and reader are taken from it.
        output_folder: where the result goes; made if it does not exist.
        tolerance_mm: the tolerance of NSD in mm; default: see
            :func:`~nnunetv2_sam2_3dmed.evaluation.tolerance.nsd_tolerance` of ``dataset_name``.
        processes: number of worker processes; 1 works in this process; None takes
            :func:`default_processes`.
        seconds: a time per method to show beside its scores.
        progress: show a progress bar on stderr where that is a terminal.
        dataset_name: the dataset's name in the report, and of its folder in nnUNet_raw, whose images are looked at
            where a prediction lies off its ground truth; default: the ``name`` in ``dataset_json``, and no images.
        reference: the method that the paired tests are against; default: the first.
        published: the network of nnU-Net's published per-case results to pair the methods with, if any; needs
            ``dataset_name``.

    Raises:
        UserError: if predictions or ground truth are missing, unreadable, of different shapes, or lie elsewhere, or the
            output folder cannot be made.
    """
    processes = default_processes() if processes is None else processes
    if not methods:
        raise UserError("no methods were given, expected at least one: name the predictions to compare.")
    if processes < 1:
        raise UserError(f"the number of processes is {processes}, expected 1 or more.")
    check_writable_folder(output_folder)
    tolerance = nsd_tolerance(dataset_name, tolerance_mm)
    reference = next(iter(methods)) if reference is None else reference
    if reference not in methods:
        raise UserError(f"the reference is {reference!r}, expected one of the methods: {', '.join(methods)}.")
    if published:
        published_dice(dataset_name or "", published)  # refused before the cases are scored
    ending = dataset_json["file_ending"]
    shared = share_cases(methods, gt_folder, ending)
    cases = [_with_image(case, dataset_name, ending) for case in shared.cases]
    check_lengths(file for case in shared.cases for file in (case.gt, *case.predictions.values()))
    classes, ignored = foreground_classes(dataset_json), ignore_label(dataset_json)
    evaluator = CaseEvaluator(classes, ignored, _reader(dataset_json, shared.cases[0].gt), tolerance.mm)

    by_method: dict[str, dict[str, Mapping[str, MaskMetrics]]] = {method: {} for method in methods}
    off_grid: dict[str, dict[str, GridDifference]] = {method: {} for method in methods}
    evaluated = _evaluate(CachedEvaluator(evaluator, output_folder / FOLDER), cases, processes)
    failed: dict[str, UserError] = {}
    bar = tqdm(evaluated, desc="cases", total=len(cases), disable=None if progress else True)
    for case, result in zip(cases, bar, strict=True):
        if isinstance(result, UserError):
            failed[case.name] = result
            continue
        for method in methods:
            by_method[method][case.name] = result.scores[method]
            if method in result.off_grid:
                off_grid[method][case.name] = result.off_grid[method]
    if failed:
        raise _incomplete(failed, len(cases))

    scores = score_table(by_method)
    comparison = Comparison(
        dataset_name=dataset_name or dataset_json.get("name", "an unnamed dataset"),
        methods=methods,
        gt_folder=gt_folder,
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
        prompted={method: prompts for method, folders in methods.items() if (prompts := prompts_of(folders))},
        chosen_by_scored_cases=chosen_by_scored_cases(methods),
        off_grid=off_grid,
    )
    write(comparison, output_folder)
    return comparison


def _with_image(case: ComparedCase, dataset: str | None, ending: str) -> ComparedCase:
    """The case with the file of its image, if that is in nnUNet_raw."""
    raw = os.environ.get("nnUNet_raw")
    channels = find_image(Path(raw) / dataset, case.name, ending) if raw and dataset else []
    return replace(case, image=channels[0]) if channels else case


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
    evaluator: CachedEvaluator, cases: Sequence[ComparedCase], processes: int
) -> Iterator[CaseScores | UserError]:
    """Scores of ``cases`` in their order, or the error of a case."""
    processes = min(processes, len(cases))
    with ExitStack() as stack:
        if processes == 1:
            results: Iterator[CaseScores | UserError] = map(_Attempt(evaluator), cases)
        else:
            results = stack.enter_context(spawned(processes, "--processes")).map(_Attempt(evaluator), cases)
        yield from results


@dataclass(frozen=True)
class _Attempt:
    """Score a case, or return the error, so that the other cases go on."""

    evaluator: CachedEvaluator

    def __call__(self, case: ComparedCase) -> CaseScores | UserError:
        try:
            return self.evaluator(case)
        except UserError as error:
            return UserError(in_one_sentence(error))  # without its cause, which perhaps cannot go to another process
        except Exception as error:
            return UserError(f"{case.name}: {in_one_sentence(error)}")


def _incomplete(failed: Mapping[str, UserError], total: int) -> UserError:
    """The error of a comparison in which some cases cannot be scored."""
    reasons = [str(error) for error in failed.values()]
    if len(failed) == 1:
        return UserError(reasons[0])
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return UserError(
        f"{len(failed)} of {total} cases cannot be compared, and none is left out: "
        f"{'; '.join(reason.rstrip('.') for reason in reasons[:NAMED])}{more}."
    )


def write(comparison: Comparison, output_folder: Path) -> None:
    """Write the files of a comparison, each replaced as a whole."""
    contents = {
        "per_case.csv": per_case_csv(comparison),
        "summary.csv": summary_csv(comparison),
        "comparison.json": comparison_json(comparison, software_and_machine()),
        "comparison.md": comparison_markdown(comparison),
        "comparison.tex": comparison_latex(comparison),
    }
    for name, content in contents.items():
        write_text(output_folder / name, content)
