"""Masks of a video in files whose names' endings say their kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_file, check_writable_folder
from nnunetv2_sam2_3dmed.images.dicom_headers import is_dicom
from nnunetv2_sam2_3dmed.images.dicom_seg import check_highdicom, check_replaceable
from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin
from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE, write_volume
from nnunetv2_sam2_3dmed.video import dicom_seg, overlay
from nnunetv2_sam2_3dmed.video.coco import run_lengths, write_coco
from nnunetv2_sam2_3dmed.video.containers import pyav
from nnunetv2_sam2_3dmed.video.png_masks import check_new_folder, write_png_masks
from nnunetv2_sam2_3dmed.video.video import Video

COCO, DICOM = ".json", ".dcm"


def is_folder(path: Path) -> bool:
    """True for the name of a folder of PNG masks: one without an ending, or that of a folder."""
    return path.is_dir() or not path.suffix


def check_output(path: Path, video: Path) -> None:
    """Check before long work that masks can be written.

    Args:
        path: of the result.
        video: path of the source.

    Raises:
        UserError: the ending is unknown, a package is missing, the result would replace something, such as the source,
            cannot be written, or is a DICOM SEG of a video that is no DICOM file.
    """
    name = path.name.lower()
    if path.resolve() == video.resolve():
        raise UserError(f"the output {path} is the video itself: give another name.")
    if is_folder(path):
        check_writable_folder(path)
        check_new_folder(path)
        return
    check_writable_file(path)
    if name.endswith(overlay.ENDINGS):
        pyav()
    elif name.endswith(COCO):
        run_lengths()
    elif name.endswith(DICOM):
        check_highdicom()
        check_replaceable(path)
        if video.is_dir() or not is_dicom(video):
            raise UserError(
                f"{video.name} is no DICOM file, to which a DICOM SEG could refer: write another kind of file."
            )
        dicom_seg.check_dicom_seg(video)
    elif path.name.endswith(WRITABLE):
        check_no_twin(path)
    else:
        raise UserError(
            f"the output is {path}, but of a video must end in {', '.join((*overlay.ENDINGS, COCO, *WRITABLE, DICOM))},"
            " or be a folder for PNG masks."
        )


def write_masks(path: Path, video: Video, labels: Iterable[np.ndarray], object_ids: Sequence[int]) -> Path:
    """Write masks; of a DICOM SEG that fails, a NIfTI file beside it, since they may have taken long.

    Args:
        path: of the result; see :func:`check_output`.
        video: the source.
        labels: (rows, columns) for each frame in order, object numbers and 0; one at a time is in memory, but for
            label maps (NIfTI, NRRD, MetaImage), of which all are.
        object_ids: all objects.

    Returns:
        ``path``.

    Raises:
        UserError: see :func:`check_output`; or it cannot be written.
    """
    check_output(path, video.path)
    name = path.name.lower()
    if is_folder(path):
        write_png_masks(path, labels)
    elif name.endswith(overlay.ENDINGS):
        overlay.write_overlay(path, video, labels, object_ids)
    elif name.endswith(COCO):
        write_coco(path, video, labels, object_ids)
    elif name.endswith(DICOM):
        _write_dicom_seg(path, video, labels)
    else:
        write_volume(path, _volume(video, labels))
    return path


def _volume(video: Video, labels: Iterable[np.ndarray]) -> Volume:
    """Label maps as a volume on the grid of the source."""
    grid = video.grid
    return Volume(np.stack(list(labels)), grid.spacing, grid.origin, grid.direction, name=video.name)


def _write_dicom_seg(path: Path, video: Video, labels: Iterable[np.ndarray]) -> None:
    kept = list(labels)
    try:
        dicom_seg.write_dicom_seg(path, video, kept)
    except Exception as error:  # highdicom and pydicom raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        names = (f"{path.stem}{'' if k == 1 else f'_{k}'}.nii.gz" for k in itertools.count(1))
        instead = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        write_volume(instead, _volume(video, kept))
        raise UserError(f"{path} could not be written ({lines[0].rstrip('.')}): the masks are in {instead}.") from error
