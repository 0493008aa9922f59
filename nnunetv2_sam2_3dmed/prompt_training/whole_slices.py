"""Slices of preprocessed cases as wholes, as an image in use has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.network.resizing import resized

_OUTSIDE = -1  # nnU-Net's label of what is 0 around the body; its loader's label of padding, too


class WholeSlices:
    """Slices of a preprocessed case, read when they are indexed as nnU-Net's loader does it.

    nnU-Net crops images to what is not 0, which cuts off the air around a masked body and the black edges of a video.
    In use the whole slice is shown, with black there: here the edges are put back. Slices larger than the patch are
    resized to it, since a part of a slice is not what the network sees in use, which stretches slices to its own size
    anyway.

    Args:
        array: preprocessed image (C, slices, rows, columns), or its segmentation, of an open file.
        corner: where its first slice, row and column lie in the whole image.
        whole: slices, rows and columns of the whole image.
        size: rows and columns of the slices that are returned.
        taken: indices of the slices of the whole image that are returned.
        labels: segmentation of an image, of which what nnU-Net marks as outside becomes black; None: the array is a
            segmentation itself, resized to the nearest label, and what is marked as outside is background.
        black: intensity that is shown black.

    Attributes:
        shape: (C, slices, rows, columns).
    """

    def __init__(
        self,
        array: Any,
        corner: Sequence[int],
        whole: Sequence[int],
        size: tuple[int, int],
        taken: range,
        labels: Any | None = None,
        black: float = 0.0,
    ):
        self._array = array
        self._corner = tuple(corner)
        self._whole = tuple(whole)
        self._size = size
        self._taken = taken
        self._labels = labels
        self._black = black
        self.shape = (array.shape[0], len(taken), *size)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return a part, (C, slices, rows, columns)."""
        wanted = self._taken[index[1]]
        found = np.full((self.shape[0], len(wanted), *self._whole[1:]), self._black, dtype=self._array.dtype)
        start, top, left = self._corner
        count, rows, columns = self._array.shape[1:]
        kept = [place for place, number in enumerate(wanted) if start <= number < start + count]
        if kept:
            first, last = (wanted[place] - start for place in (kept[0], kept[-1]))
            part = (slice(None), slice(first, last + 1))
            inside = self._array[part][:, :: self._taken.step]
            if self._labels is None:
                inside = np.maximum(inside, 0)
            else:
                inside = np.where(self._labels[part][:, :: self._taken.step] == _OUTSIDE, self._black, inside)
            found[:, kept[0] : kept[-1] + 1, top : top + rows, left : left + columns] = inside
        if self._size != self._whole[1:]:
            found = self._at_size(found)
        return found[index[0], :, index[2], index[3]]

    def _at_size(self, slices: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(slices)
        if self._labels is not None:
            return resized(tensor, self._size).numpy()
        nearest = torch.nn.functional.interpolate(tensor.float(), size=self._size, mode="nearest-exact")
        return nearest.to(tensor.dtype).numpy()
