"""Prompts as JSON: written, read, refused."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError, SavedObject, saved_prompts
from tests.interactive.reference import phantom
from tests.interactive.test_session import BOX, SPACING

TURNED = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING, direction=TURNED)
    return session


@pytest.fixture
def prompted(ready):
    """All kinds of prompts along all axes, which no network has seen."""
    ready.add_box(*BOX)
    ready.add_points([(3, 20.25, 30), (3, 4, 5)], [1, 0])
    ready.add_scribble([(1, 9, 12), (5, 9, 33)], axis=1)
    ready.add_mask(phantom()[:, :, 21] > 600, 21, object_id=7, axis=2)
    ready.add_mask(np.zeros((7, 40)), 30, object_id=7, axis=2)
    ready.set_start(phantom() > 700, object_id=2)
    ready.add_points([(4, 12, 12)], 0, object_id=2)
    ready.protect(7)
    return ready


def test_the_memory_of_masks_is_known_before_they_are_unpacked(prompted):
    saved = saved_prompts.parse(prompted.prompts_as_json())
    # one start, and two masks that are counted as large as a slice along the shortest axis, 40 x 48
    assert saved.mask_bytes((7, 40, 48)) == 7 * 40 * 48 + 2 * 40 * 48
    for wrong in ([], [1], [{"object": 1}], [{"slices": 3}], [{"slices": [1, {}]}]):
        assert saved_prompts.SavedPrompts({"objects": wrong}).mask_bytes((7, 40, 48)) == 0


def test_prompts_that_are_loaded_give_the_very_masks(prompted, model):
    text = prompted.prompts_as_json({1: "liver", 7: "Niere \u00e4"}, {7: "#C0392b"})
    other = InteractiveSession(model, device="cpu", precision="float32")
    other.set_image(phantom(), SPACING, direction=TURNED)
    assert other.add_prompts_from_json(text) == [
        SavedObject(1, "liver", None, False),
        SavedObject(2, None, None, False),
        SavedObject(7, "Niere \u00e4", "#C0392b", True),
    ]
    assert other.prompts_as_json({1: "liver", 7: "Niere \u00e4"}, {7: "#C0392b"}) == text
    assert other.protected_ids == [7]
    for session in (prompted, other):
        session.propagate(axis=0)
        session.propagate(axis=1, slices=(8, 10))
        session.propagate(axis=2, slices=(20, 31))
    for object_id in (1, 2, 7):
        expected = prompted.mask(object_id)
        assert expected.any()
        np.testing.assert_array_equal(other.mask(object_id), expected)
    assert other.undo() == [1, 2, 7] and other.object_ids == []


def test_a_file_is_read_like_its_text(prompted, tmp_path):
    file = tmp_path / "prompts.json"
    text = prompted.prompts_as_json()
    file.write_text(text, encoding="utf-8")
    prompted.reset()
    prompted.add_prompts_from_json(file)
    assert prompted.prompts_as_json() == text


def test_the_form_is_as_described(prompted):
    content = json.loads(prompted.prompts_as_json({2: "x"}))
    assert content["format"] == "sam2_3dmed prompts" and content["version"] == 1
    assert content["shape"] == [7, 40, 48] and content["spacing"] == list(SPACING)
    liver, started, kidney = content["objects"]
    assert [entry["object"] for entry in content["objects"]] == [1, 2, 7]
    assert (started["name"], kidney["protected"], "name" in liver, "start" in liver) == ("x", True, False, False)
    first, scribble = liver["slices"]
    assert (first["axis"], first["slice"], first["labels"]) == (0, 3, [1, 0])
    assert first["points"] == [[3, 20.25, 30], [3, 4, 5]]
    assert np.sort(first["box"], axis=0).tolist() == np.sort(BOX, axis=0).tolist()
    assert (scribble["axis"], scribble["slice"], scribble["labels"]) == (1, 9, [1] * 8)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(started["start"])), np.uint8))
    np.testing.assert_array_equal(bits[: 7 * 40 * 48].reshape(7, 40, 48), phantom() > 700)
    (drawn,) = (entry for entry in kidney["slices"] if entry["slice"] == 21)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(drawn["mask"])), np.uint8))
    np.testing.assert_array_equal(bits[: 7 * 40].reshape(7, 40), phantom()[:, :, 21] > 600)


def test_prompts_are_added_to_those_that_are_there_and_a_start_takes_their_place(ready):
    ready.add_points([(3, 20, 30)])
    ready.add_points([(3, 20, 30)], object_id=2)
    text = ready.prompts_as_json()
    ready.reset()
    ready.set_start(phantom() > 700, object_id=2)
    start = ready.prompts_as_json()
    ready.reset()
    ready.add_points([(3, 10, 10)])
    ready.add_points([(5, 20, 30)], object_id=2)
    ready.add_prompts_from_json(text)
    assert [(one.object_id, one.index, len(one.prompt.points)) for one in ready.prompts] == [
        (1, 3, 2),
        (2, 5, 1),
        (2, 3, 1),
    ]
    ready.add_prompts_from_json(start)
    assert [one.object_id for one in ready.prompts] == [1]
    np.testing.assert_array_equal(ready.mask(2), phantom() > 700)
    assert ready.undo() == [2]
    assert [one.object_id for one in ready.prompts] == [1, 2, 2]


def test_no_objects_are_no_step(ready):
    assert ready.add_prompts_from_json(ready.prompts_as_json()) == []
    with pytest.raises(PromptError, match="nothing to undo"):
        ready.undo()


def packed(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask != 0).tobytes())).decode()


POINT = {"axis": 0, "slice": 3, "points": [[3, 20, 30]], "labels": [1]}
BAD_SLICES = {
    "outside": ({"points": [[3, 40, 30]]}, "the point .3, 40, 30. lies outside"),
    "another slice": ({"slice": 4}, "the points listed for slice 4 lie on slice 3 .axis 0.: correct the file, or save"),
    "box elsewhere": ({"box": [[2, 1, 1], [2, 5, 9]]}, "the box listed for slice 3 lies on slice 2 .axis 0.: correct"),
    "no such slice": ({"slice": 99}, "slice 99 along axis 0 does not exist"),
    "no such axis": ({"axis": 3}, "axis is 3"),
    "no labels": ({"labels": None}, "cannot be"),
    "words": ({"points": "here"}, "three voxel coordinates"),
    "many words": ({"points": ["here"] * 1000}, "three voxel coordinates"),
    "long label": ({"labels": ["here" * 1000]}, "must be 1 .inside the object. or 0"),
    "nothing": ({"points": None}, "there are no prompts on slice 3"),
    "flat box": ({"box": [[3, 1, 1], [3, 1, 9]]}, "is empty"),
    "infinite slice": ({"slice": float("inf")}, "object 1 cannot be read"),
    "slice of None": ({"slice": None}, "object 1 cannot be read"),
    "small mask": ({"mask": packed(np.ones((4, 4)))}, "does not have the 40 x 48 voxels"),
    "no mask": ({"mask": "?"}, "not what this program writes"),
    "truncated mask": ({"mask": packed(phantom()[3] > 700)[:-8]}, "does not have the 40 x 48|not what this program"),
    "bomb": ({"mask": base64.b64encode(zlib.compress(bytes(10**7))).decode()}, "does not have the 40 x 48 voxels"),
    "empty mask alone": ({"mask": packed(np.zeros((40, 48)))}, "the only mask of object 1 along axis 0 is empty"),
    "nothing to see": ({"slice": 6, "points": [[6, 20, 30]]}, "slice 6 along axis 0 shows nothing"),
}
BAD_OBJECTS = {
    "number": ({"object": 0}, "the object is 0"),
    "no slices": ({"slices": None}, "object 1 cannot be read"),
    "neither": ({"slices": []}, "object 1 has neither prompts nor a start"),
    "colour": ({"colour": "red"}, "the colour of object 1 is 'red', but must be written #rrggbb"),
    "colour of numbers": ({"colour": 7}, "object 1 cannot be read"),
    "empty start": ({"start": packed(np.zeros((7, 40, 48)))}, "the mask is empty"),
    "small start": ({"start": packed(np.ones((40, 48)))}, "does not have the 7 x 40 x 48 voxels"),
}
BAD_FILES = {
    "another image": ({"shape": [8, 40, 48]}, "for an image of 8 x 40 x 48 voxels of 3 x 1 x 1 mm, but .* 7 x 40 x 48"),
    "another spacing": ({"spacing": [3, 1, 1.1]}, "of 3 x 1 x 1.1 mm"),
    "no image": ({"shape": None}, "do not say for which image"),
    "version": ({"version": 2}, "has version 2 of the format, but this program reads 1"),
    "format": ({"format": "napari"}, "holds no prompts"),
    "no list": ({"objects": {"1": 2}}, "has no list of objects"),
    "words": ({"objects": ["liver"]}, "the prompts of object liver cannot be read"),
    "twice": ({"objects": [{"object": 1, "slices": [POINT]}] * 2}, "object 1 is there twice"),
}


def written(slices=None, of_object=None, of_file=None):
    one = {"object": 1, "slices": [POINT | (slices or {})]} | (of_object or {})
    file = {"format": "sam2_3dmed prompts", "version": 1, "shape": [7, 40, 48], "spacing": SPACING, "objects": [one]}
    return json.dumps(file | (of_file or {}))


TEXTS = {f"slice: {name}": (written(change), said) for name, (change, said) in BAD_SLICES.items()}
TEXTS |= {f"object: {name}": (written(None, change), said) for name, (change, said) in BAD_OBJECTS.items()}
TEXTS |= {f"file: {name}": (written(None, None, change), said) for name, (change, said) in BAD_FILES.items()}
TEXTS |= {
    "a name of a file": ("prompts.json", "the text is no JSON"),
    "deep": ("[" * 100_000, "the text is no JSON"),
    "a list": ("[1]", "the text holds no prompts"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_cannot_be_loaded_is_told_in_one_sentence_and_changes_nothing(session, name):
    array = phantom()
    array[6] = 500
    session.set_image(array, SPACING)
    session.add_box(*BOX, object_id=5)
    before = session.prompts_as_json()
    assert session.add_prompts_from_json(written()) and session.undo() == [1], "without the change it is right"
    text, said = TEXTS[name]
    with pytest.raises(UserError, match=said) as raised:
        session.add_prompts_from_json(text)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    assert session.prompts_as_json() == before
    assert session.undo() == [5]


def test_a_file_that_is_not_there(ready, tmp_path):
    with pytest.raises(UserError, match="nowhere.json cannot be read: No such file"):
        ready.add_prompts_from_json(tmp_path / "nowhere.json")
    with pytest.raises(PromptError, match="the colour of object 1 is 'red'"):
        ready.add_points([(3, 20, 30)])
        ready.prompts_as_json(colours={1: "red"})
