"""Detection of incomplete raw files that nnU-Net would read without an error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import twin
from nnunetv2_sam2_3dmed.images.integrity import check_lengths, count_not_finite, holds_floats
from nnunetv2_sam2_3dmed.images.nifti import is_nifti
from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json


def check_training_files(dataset: str) -> None:
    """Compare header and length of a dataset's raw images and labels, if nnUNet_raw has them.

    nnU-Net itself reads missing voxels as zeros.

    Raises:
        UserError: a file is incomplete, or ITK would read another one in its place.
    """
    raw = os.environ.get("nnUNet_raw")
    if not raw or not (Path(raw) / dataset).is_dir():
        return
    ending = load_dataset_json(dataset)["file_ending"]
    folders = [Path(raw) / dataset / name for name in ("imagesTr", "labelsTr")]
    try:
        check_files(file for folder in folders for file in visible(folder, ending))
    except UserError as error:
        raise UserError(
            f"{str(error).removesuffix('.')}; its preprocessed data are wrong: when the files are complete, run "
            f"`nnUNetv2_plan_and_preprocess -d {dataset} -c 3d_fullres` again."
        ) from error


def warning_of_not_finite(dataset: str) -> str | None:
    """Return a warning about raw images with NaN or infinite voxels; None without such images, or without nnUNet_raw.

    SimpleITK sets such voxels of NIfTI files to 0 before nnU-Net preprocesses them. Only floating-point files are read.
    """
    raw = os.environ.get("nnUNet_raw")
    if not raw or not (Path(raw) / dataset).is_dir():
        return None
    images = visible(Path(raw) / dataset / "imagesTr", load_dataset_json(dataset)["file_ending"])
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decompressing releases the GIL
        floats = [file for file in images if is_nifti(file) and holds_floats(file)]
        counts = pool.map(count_not_finite, floats)
        wrong = [file.name for file, count in zip(floats, counts, strict=True) if count]
    if not wrong:
        return None
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return (
        f"{', '.join(wrong[:3])}{more} in imagesTr of {dataset} hold NaN or infinite voxels, which are 0 where nnU-Net "
        "preprocessed them with SimpleITK, while prediction leaves such images out: correct them and preprocess again."
    )


def check_files(files: Iterable[Path]) -> None:
    """Compare header and length of files that nnU-Net is about to read.

    Raises:
        UserError: a file is incomplete, or ITK would read another one in its place.
    """
    known = list(files)
    for file in known:
        if is_nifti(file) and file.name.lower().endswith(".gz") and twin(file).exists():
            raise UserError(
                f"{file} has {twin(file).name} beside it, which SimpleITK would read in its place: move one of them."
            )
    check_lengths(known)


def visible(folder: Path, ending: str) -> list[Path]:
    """Return the sorted files with an ending, without the hidden ``._NAME`` files of macOS."""
    return sorted(folder.glob(f"[!.]*{ending}"))


def cases_in(folder: Path, ending: str) -> dict[str, list[Path]]:
    """Return the files ``CASE_0000``, ``CASE_0001`` ... of each case's channels, in nnU-Net's order."""
    cases: dict[str, list[Path]] = {}
    for file in visible(folder, ending):
        case, _, channel = file.name.removesuffix(ending).rpartition("_")
        if case and len(channel) == 4 and channel.isdecimal():
            cases.setdefault(case, []).append(file)
    return dict(sorted(cases.items()))
