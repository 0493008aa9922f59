"""NIfTI files with misleading names: readers would take another file, or another format."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.integrity import check_content, count_not_finite
from nnunetv2_sam2_3dmed.images.nifti import is_gzip, is_nifti


@contextmanager
def exactly(path: Path) -> Iterator[Path]:
    """Yield a path by which ITK and nibabel read exactly this file.

    ITK takes the voxels of X.nii.gz from X.nii where that lies beside it; neither reads compressed files named .nii,
    nor endings of mixed case. For such a file, the path is a link in a temporary folder.
    """
    name = path.name.lower()
    ending = ".nii.gz" if is_nifti(path) and is_gzip(path) else ".nii"
    if not is_nifti(path) or (path.name.endswith(ending) and not (name.endswith(".gz") and twin(path).exists())):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sam2_3dmed_") as folder:
        link = Path(folder) / f"image{ending}"
        link.symlink_to(path.resolve())
        yield link


def twin(path: Path) -> Path:
    """X.nii for X.nii.gz and the other way round."""
    return path.with_name(path.name[:-3] if path.name.lower().endswith(".gz") else f"{path.name}.gz")


def check_no_twin(output: Path) -> None:
    """Refuse an output X.nii beside an existing X.nii.gz, and the other way round.

    Raises:
        UserError: there is such a file.
    """
    if is_nifti(output) and twin(output).exists():
        raise UserError(
            f"{output} would lie beside {twin(output).name}, and many programs read one for the other: give another "
            "name."
        )


@contextmanager
def checked_paths(files: Sequence[Path], finite: bool = True) -> Iterator[list[str]]:
    """Yield paths for one of nnU-Net's readers, after a check that the files are whole.

    Args:
        files: of the channels of an image.
        finite: refuse NaN and infinite voxels; nnU-Net itself preprocesses images with them.

    Raises:
        UserError: a file is missing, incomplete or damaged, or has voxels that are NaN or infinite.
    """
    for file in files:
        (check_content if finite else count_not_finite)(file)
    with ExitStack() as stack:
        yield [str(stack.enter_context(exactly(file))) for file in files]
