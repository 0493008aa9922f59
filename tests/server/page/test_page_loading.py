"""Prompts and segmentations that a page loads."""

import base64
import json
import zlib

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.interactive.engine import Engine
from tests.server.page_client import OBLIQUE, SHAPE, Client, as_shown, network_fails, write


def test_prompts_are_saved_and_loaded(client, serve, image, tmp_path):
    client.open(image)
    client.ok("PATCH", "objects/1", json={"name": "Liver", "colour": "#ff0000"})
    client.prompt("box", [(3, 3), (25, 30)])
    client.prompt("point", [(10, 10)])
    expected = sitk.GetArrayFromImage(client.saved(tmp_path))
    prompts = client.ok("GET", "session")["state"]["objects"]
    (tmp_path / "prompts.json").write_bytes(client.ask("GET", "prompts").content)
    other = Client(str(client.http.base_url))
    other.open(image)
    sent = other.send(tmp_path / "prompts.json")
    answer = other.ok("POST", "prompts/file", json=sent)
    assert answer["state"]["objects"] == prompts and answer["notes"] == []
    # a box and a point answered together, instead of one after the other: the same prompts, perhaps other masks
    found = sitk.GetArrayFromImage(other.saved(tmp_path))
    assert found.any() and expected.any()
    assert "no longer on the server" in other.refused("POST", "prompts/file", json=sent)  # deleted after use
    assert "JSON" in other.refused("POST", "prompts/file", json=other.send(image))


def test_a_segmentation_is_a_start(client, image, tmp_path):
    view = client.open(image)["image"]["views"][0]
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 5:20, 5:20], labels[2:6, 25:35, 5:20] = 1, 3
    sent = client.send(write(tmp_path / "labels.nrrd", labels, OBLIQUE))
    objects = client.ok("POST", "segmentation", json=sent)["state"]["objects"]
    assert [(one["id"], one["started"]) for one in objects] == [(1, True), (3, True)]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(client.saved(tmp_path)), labels)
    assert set(np.unique(client.plane("labels", view, 3))) == {0, 1, 3}
    client.ok("POST", "undo")  # both objects are one step
    assert not sitk.GetArrayFromImage(client.saved(tmp_path)).any()
    assert not client.ok("GET", "session")["state"]["can_undo"]
    elsewhere = client.send(write(tmp_path / "elsewhere.nrrd", labels))
    assert "mm apart" in client.refused("POST", "segmentation", json=elsewhere)
    empty = client.send(write(tmp_path / "empty.nrrd", np.zeros(SHAPE, np.uint8), OBLIQUE))
    assert "is empty" in client.refused("POST", "segmentation", json=empty)
    halves = client.send(write(tmp_path / "halves.nrrd", (labels / 2).astype(np.float32), OBLIQUE))
    assert "holds 0.5" in client.refused("POST", "segmentation", json=halves)


def test_loading_tells_where_nothing_is_seen_and_keeps_the_rest(client, image, tmp_path, monkeypatch):
    view = client.open(image)["image"]["views"][0]
    client.prompt("box", [(3, 3), (25, 30)])
    number = client.ok("POST", "objects", json={"name": "Nothing"})["object"]
    client.prompt("point", [(10, 10)], index=2, number=number)
    file = tmp_path / "prompts.json"
    file.write_bytes(client.ask("GET", "prompts").content)
    other = Client(str(client.http.base_url))
    other.open(image)
    answer = Engine.answer

    def seen(engine, features, index, prompt, *rest, **options):
        output = answer(engine, features, index, prompt, *rest, **options)
        return output if prompt.box is not None else output._replace(logits=output.logits * 0 - 1)

    monkeypatch.setattr(Engine, "answer", seen)
    loaded = other.ok("POST", "prompts/file", json=other.send(file))
    (note,) = loaded["notes"]
    assert "sees no object" in note and "slice 2" in note and note.endswith(".")
    objects = loaded["state"]["objects"]
    assert [(one["id"], one["name"], len(one["prompts"])) for one in objects] == [(1, "Object 1", 1), (2, "Nothing", 0)]
    labels = sitk.GetArrayFromImage(other.saved(tmp_path))
    found = np.array([other.plane("labels", view, index) for index in range(SHAPE[0])])
    np.testing.assert_array_equal(found, as_shown(other, labels))
    assert set(np.unique(labels)) == {0, 1}


def test_prompts_that_the_network_fails_on_are_not_loaded(client, image, tmp_path, monkeypatch):
    client.open(image)
    client.prompt("box", [(3, 3), (25, 30)])
    client.ok("PATCH", "objects/1", json={"protected": True, "name": "Liver"})
    file = tmp_path / "prompts.json"
    file.write_bytes(client.ask("GET", "prompts").content)
    other = Client(str(client.http.base_url))
    other.open(image)
    other.prompt("lasso", [(2, 2), (2, 9), (9, 9)])
    before = other.ok("GET", "session")
    with monkeypatch.context() as failing:
        failing.setattr(Engine, "answer", network_fails)
        assert "out of memory" in other.refused("POST", "prompts/file", 500, json=other.send(file))
    assert other.ok("GET", "session") == before
    (one,) = other.ok("POST", "prompts/file", json=other.send(file))["state"]["objects"]
    assert one["protected"] and one["name"] == "Liver"


def test_prompts_of_a_locked_object_are_not_loaded(client, image, tmp_path):
    client.open(image)
    client.prompt("box", [(3, 3), (25, 30)])
    file = tmp_path / "prompts.json"
    file.write_bytes(client.ask("GET", "prompts").content)
    client.ok("PATCH", "objects/1", json={"protected": True, "name": "Liver"})
    before = client.ok("GET", "session")
    assert "Liver is locked" in client.refused("POST", "prompts/file", json=client.send(file))
    assert client.ok("GET", "session") == before


def test_prompts_that_would_fill_the_memory_are_refused(serve, image, tmp_path):
    voxels = int(np.prod(SHAPE))
    client = Client(serve(largest_image_bytes=5 * voxels).url)  # room for the image, float32, and five starts
    client.open(image)
    before = client.ok("GET", "session")
    start = base64.b64encode(zlib.compress(bytes((voxels + 7) // 8))).decode()
    objects = [{"object": k + 1, "start": start, "slices": []} for k in range(6)]
    content = {"format": "sam2_3dmed prompts", "version": 1, "shape": SHAPE, "spacing": [3.0, 1.1, 0.9]}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(content | {"objects": objects}))
    assert file.stat().st_size < 2000
    sentence = client.refused("POST", "prompts/file", json=client.send(file))
    assert sentence.startswith("the masks of prompts.json take")
    labels = np.arange(voxels, dtype=np.uint8).reshape(SHAPE) % 7
    sent = client.send(write(tmp_path / "labels.nii.gz", labels, OBLIQUE))
    assert "the masks of labels.nii.gz take" in client.refused("POST", "segmentation", json=sent)
    assert client.ok("GET", "session") == before


def test_a_large_file_is_not_read_as_prompts(client, image, tmp_path):
    client.open(image)
    file = tmp_path / "prompts.json"
    file.write_bytes(b" " * (2**24 + 1))
    assert "16 MiB at most" in client.refused("POST", "prompts/file", json=client.send(file))
