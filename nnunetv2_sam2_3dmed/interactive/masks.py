"""From what SAM 2 gave for single slices to masks on the grid of the image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.interactive.memory import Track
from nnunetv2_sam2_3dmed.network.resizing import logits_at

# logits of a mask that was drawn, as SAM 2 has them
DRAWN = 10.0


def drawn_mask(track: Track, index: int) -> np.ndarray | None:
    """The mask that the user drew on a slice and that still holds there."""
    prompt = track.prompts.get(index)
    return prompt.mask if prompt is not None and index not in track.unanswered else None


def slice_logits(track: Track, index: int, shape: tuple[int, int]) -> np.ndarray | None:
    """Logits (rows, columns) of a slice of the view; None where there is no mask.

    A mask that was drawn comes back as it was drawn, not as SAM 2's resolution leaves it.
    """
    output = track.output(index)
    if output is None:
        return None
    drawn = drawn_mask(track, index)
    if drawn is not None:
        return np.where(drawn, np.float32(DRAWN), np.float32(-DRAWN))
    return logits_at(output.logits, shape)[0, 0].numpy()


def volume_logits(tracks: Mapping[int, Track], volume: Volume) -> np.ndarray:
    """Logits of one object, float16, on the image's grid; minus infinity where no slice with a mask runs through.

    Where slices along several axes have masks their logits are averaged; a drawn mask stands as it is.

    Args:
        tracks: of the object, by axis.
        volume: the image.
    """
    total = np.full(volume.shape, -np.inf, dtype=np.float16)
    count = np.zeros(volume.shape, dtype=np.uint8) if len(tracks) > 1 else None
    for axis, track in tracks.items():
        view = volume.view(axis)
        shape = view.shape(volume.shape)[1:]
        seen, counted = view.of(total), None if count is None else view.of(count)
        for index in track.slices():
            logits = slice_logits(track, index, shape)
            assert logits is not None
            if counted is None:
                seen[index] = logits
            else:
                before = np.where(counted[index] > 0, seen[index].astype(np.float32), 0)
                counted[index] += 1
                seen[index] = before + (logits - before) / counted[index]
    if count is not None:
        for axis, track in tracks.items():
            seen = volume.view(axis).of(total)
            for index in track.slices():
                drawn = drawn_mask(track, index)
                if drawn is not None:
                    seen[index] = np.where(drawn, DRAWN, -DRAWN)
    return total
