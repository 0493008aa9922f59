"""Steps of a session's objects, which need no network."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.tracks import Key, PromptPlace
from tests.interactive.test_tracks import output

KEY, OTHER = Key(1, 0), Key(2, 0)
BOX = SlicePrompt.empty().with_box((1, 1, 2, 2))


def test_as_many_prompts_can_be_undone_as_are_kept():
    objects, steps = Objects(), 32  # as InteractiveSession promises
    for index in range(steps + 1):
        objects.add_prompt(PromptPlace(KEY, index), SlicePrompt.empty())
    assert objects.latest == PromptPlace(KEY, steps)
    for index in reversed(range(steps)):
        objects.undo()
        assert objects.latest == PromptPlace(KEY, index) and sorted(objects.track(KEY).prompts) == list(
            range(index + 1)
        )
    with pytest.raises(PromptError, match="nothing to undo"):
        objects.undo()


def test_large_starts_shorten_the_history(monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.objects.HISTORY_BYTES", 2500)
    objects = Objects()
    for _ in range(6):  # from the second one on, each replaces 1000 bytes
        objects.set_starts({1: np.ones((10, 10, 10), dtype=bool)})
    assert [objects.undo() for _ in range(2)] == [[1]] * 2
    with pytest.raises(PromptError, match="nothing to undo"):
        objects.undo()
    for _ in range(2):
        objects.set_starts({1: np.ones((20, 20, 20), dtype=bool)})
    assert objects.can_undo  # the latest step, whatever it holds


def test_a_removed_object_is_not_the_latest_until_that_is_undone():
    objects = Objects()
    objects.add_prompt(PromptPlace(KEY, 3), BOX)
    objects.remove(1)
    assert objects.latest is None and objects.ids == []
    objects.undo()
    assert objects.latest == PromptPlace(KEY, 3) and objects.ids == [1]


def test_undo_and_redo_change_the_objects_of_their_step_alone():
    """Masks that were propagated after the prompt of another object stay."""
    objects = Objects()
    objects.add_prompt(PromptPlace(KEY, 3), BOX)
    objects.add_prompt(PromptPlace(OTHER, 5), BOX)
    propagated = objects.tracks[KEY] = objects.track(KEY).with_visit(4, False, output())
    tracked = objects.tracks[OTHER] = objects.track(OTHER).with_visit(6, False, output())
    assert objects.undo() == [2]
    assert objects.tracks == {KEY: propagated} and objects.latest == PromptPlace(KEY, 3)
    assert objects.redo() == [2]
    assert objects.tracks[OTHER] is tracked and objects.tracks[KEY] is propagated
    assert objects.latest == PromptPlace(OTHER, 5)
    assert [objects.undo(), objects.undo()] == [[2], [1]] and not objects.tracks
    assert [objects.redo(), objects.redo()] == [[1], [2]]
    assert objects.tracks == {KEY: propagated, OTHER: tracked}
    with pytest.raises(PromptError, match="nothing to redo"):
        objects.redo()


def test_a_new_step_empties_redo():
    objects = Objects()
    for index in (1, 2):
        objects.add_prompt(PromptPlace(KEY, index), BOX)
    objects.undo()
    objects.remove(1)
    with pytest.raises(PromptError, match="nothing to redo"):
        objects.redo()
    assert objects.undo() == [1] and sorted(objects.track(KEY).prompts) == [1]


def test_a_start_takes_the_place_of_prompts_along_all_axes():
    objects, mask = Objects(), np.ones((2, 2, 2), dtype=bool)
    across = Key(1, 2)
    for key in (KEY, across, OTHER):
        objects.add_prompt(PromptPlace(key, 1), BOX)
    tracks = dict(objects.tracks)
    objects.set_starts({1: mask})
    assert objects.tracks == {OTHER: tracks[OTHER]} and objects.starts[1] is mask and objects.ids == [1, 2]
    assert objects.keys(1) == [] and objects.keys(2) == [OTHER]
    objects.remove(1)
    assert objects.ids == [2]
    assert objects.undo() == [1] and objects.starts[1] is mask
    assert objects.undo() == [1] and objects.tracks == tracks and not objects.starts


def test_prompts_that_are_taken_back_are_in_no_history():
    objects = Objects()
    objects.add_prompt(PromptPlace(OTHER, 5), BOX)
    for _ in range(3):  # none of them answered
        objects.add_prompt(PromptPlace(KEY, 3), BOX)
    objects.take_back(PromptPlace(KEY, 3))
    assert objects.ids == [2] and objects.latest == PromptPlace(OTHER, 5)
    assert objects.undo() == [2] and objects.ids == []
    with pytest.raises(PromptError, match="nothing to undo"):
        objects.undo()


def test_an_answered_prompt_is_kept_where_later_ones_are_taken_back():
    objects = Objects()
    objects.add_prompt(PromptPlace(KEY, 3), BOX)
    answered = objects.tracks[KEY] = objects.track(KEY).with_answer(3, output())
    for _ in range(2):
        objects.add_prompt(PromptPlace(KEY, 3), BOX)
    objects.take_back(PromptPlace(KEY, 3))
    assert objects.tracks == {KEY: answered} and objects.latest == PromptPlace(KEY, 3)
    assert objects.undo() == [1] and objects.ids == []


def test_versions_count_the_steps_of_an_object():
    objects = Objects()
    objects.add_prompt(PromptPlace(KEY, 3), BOX)
    objects.add_prompt(PromptPlace(OTHER, 3), BOX)
    objects.undo()
    objects.redo()
    objects.remove(2)
    assert objects.versions == {1: 1, 2: 4}
