"""Which prediction files belong to which case, and which cases all methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cases import Case

RAW_FOLDERS = ("imagesTr", "imagesTs")


@dataclass(frozen=True)
class SharedCases:
    """The cases that every method has, and those that are left out of the comparison.

    Attributes:
        cases: the shared cases, sorted by name.
        missing: for each method, the names of the cases that other methods have and it lacks.
    """

    cases: list[Case]
    missing: dict[str, list[str]]


def find_predictions(folders: Sequence[Path], file_ending: str) -> dict[str, Path]:
    """The prediction files of one method by case name, pooled over ``folders`` (one per fold).

    Raises:
        UserError: if a folder does not exist or holds no prediction, or two folders hold the same case.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        files = sorted(f for f in Path(folder).glob(f"[!.]*{file_ending}") if f.is_file())
        if not files:
            raise UserError(
                f"{folder} holds no predictions, expected *{file_ending} files: check it, or predict first."
            )
        for file in files:
            case = file.name.removesuffix(file_ending)
            if case in found:
                raise UserError(
                    f"{found[case]} and {file} are two predictions of one method for one case, expected one: "
                    "compare folds that do not overlap."
                )
            found[case] = file
    return found


def share_cases(methods: Mapping[str, Sequence[Path]], truth_folder: Path, file_ending: str) -> SharedCases:
    """Matches the predictions of all methods with each other and with the truth.

    Args:
        methods: the folders of each method's predictions, by its name.
        truth_folder: the folder of the true segmentations, named as the predictions are.
        file_ending: the ending of all these files, with its dot.

    Raises:
        UserError: if no case is shared by all methods, or a shared case has no truth.
    """
    predictions = {name: find_predictions(folders, file_ending) for name, folders in methods.items()}
    shared = set.intersection(*(set(p) for p in predictions.values()))
    every = set.union(*(set(p) for p in predictions.values()))
    if not shared:
        counts = ", ".join(f"{name}: {len(p)}" for name, p in predictions.items())
        raise UserError(f"no case was predicted by all methods (cases of {counts}): compare them on the same folds.")
    cases = []
    for name in sorted(shared):
        truth = Path(truth_folder) / f"{name}{file_ending}"
        if not truth.is_file():
            raise UserError(f"{truth} does not exist, but case {name} was predicted: give the truth's folder.")
        cases.append(Case(name, truth, {method: p[name] for method, p in predictions.items()}))
    return SharedCases(cases, {method: sorted(every - set(p)) for method, p in predictions.items()})


def find_image(dataset_folder: Path, case: str, file_ending: str) -> list[Path]:
    """The files of a case's channels in a raw dataset of nnU-Net, in their order; empty if there are none."""
    for folder in RAW_FOLDERS:
        # by their names: to list the folder for each case would take long for many of them
        named = (dataset_folder / folder / f"{case}_{channel:04d}{file_ending}" for channel in count())
        channels = list(takewhile(Path.is_file, named))
        if channels:
            return channels
    return []
