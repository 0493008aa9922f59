"""Preprocessed images with NaN or infinite voxels, of which a network would silently make empty masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError


def is_finite(image: torch.Tensor | np.ndarray) -> bool:
    """Ask whether all voxels of (C, D, H, W) are finite; a channel at a time, to need little memory."""
    finite = torch.isfinite if isinstance(image, torch.Tensor) else np.isfinite
    return all(bool(finite(channel).all()) for channel in image)


class FiniteImages:
    """The cases of nnU-Net's iterator without those whose image has NaN or infinite voxels.

    Args:
        cases: dictionaries with ``data``, a tensor or the file of one, and ``ofile``, the output without its ending, or
            None.
    """

    def __init__(self, cases: Iterable[dict]):
        self._cases = cases
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[dict]:
        for number, case in enumerate(self._cases):
            data = case["data"]
            from_file = isinstance(data, str)
            if is_finite(np.load(data, mmap_mode="r") if from_file else data):
                yield case
                continue
            if from_file:
                os.remove(data)  # as nnU-Net does with what it has read
            if case["ofile"] is None:  # the result would be returned, and be missed among the others
                raise UserError(_sentence(f"image number {number}"))
            self.left_out.append(Path(case["ofile"]).name)
            print(f"\n{_sentence(self.left_out[-1])}")

    def check(self) -> None:
        """Report the images that were left out, when the others are predicted.

        Raises:
            UserError: some were left out.
        """
        if self.left_out:
            raise UserError(_sentence(", ".join(self.left_out)))


def check_image(image: torch.Tensor) -> None:
    """Refuse an image whose name is not known here.

    Raises:
        UserError: it has NaN or infinite voxels.
    """
    if not is_finite(image):
        raise UserError(_sentence("the image"))


def _sentence(what: str) -> str:
    return (
        f"{what} is not predicted, because it has NaN or infinite voxels, from which the network could only make an "
        f"empty mask: correct them in the image."
    )
