"""Memory that a session keeps after many volumes, and after prompts that were undone."""

from __future__ import annotations

import gc

import torch

from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from tests.interactive.reference import phantom

SPACING = (3.0, 0.8, 0.8)


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(entry), torch.Tensor) for entry in gc.get_objects())


def test_a_volume_leaves_nothing_for_the_next(session):
    counts = []
    for _ in range(4):
        session.set_image(volume_from_array(phantom((4, 40, 48)), SPACING))
        session.add_points([[2, 20, 24]])
        session.propagate()
        counts.append(tensors())
    assert counts[1:] == [counts[1]] * 3


def test_undone_prompts_and_propagations_leave_nothing(session):
    session.set_image(volume_from_array(phantom((4, 40, 48)), SPACING))
    session.add_points([[2, 20, 24]])
    session.propagate()
    counts = []
    for _ in range(4):
        session.add_points([[1, 18, 22]])
        session.propagate()
        counts.append(tensors())
        session.undo()
    assert counts[1:] == [counts[1]] * 3
