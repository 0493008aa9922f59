"""The page's HTTP interface, beside a session in this process with the same prompts."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.images import dicom_seg
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import write_series
from tests.interactive.reference import phantom
from tests.server.page_client import OBLIQUE, SHAPE, Client, write


def shown(volume, axis: int, index: int) -> np.ndarray:
    """Voxels (rows, columns, 3) of a slice as it is shown."""
    places = np.stack(np.indices(volume.shape), axis=-1)
    view = volume.view(axis)
    turned = np.stack([view.of(places[..., k]) for k in range(3)], axis=-1)
    return next(plane for plane in turned if (plane[..., axis] == index).all())


# ---- the same as a session in this process


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_prompts_in_each_plane_give_the_masks_of_a_session(client, beside, image, tmp_path, axis):
    view = client.open(image)["image"]["views"][axis]
    volume = beside.set_image(image)
    middle = SHAPE[axis] // 2
    voxels, beyond = shown(volume, axis, middle), shown(volume, axis, middle + 1)
    rows, columns = voxels.shape[:2]
    assert (view["rows"], view["columns"], view["depth"]) == (rows, columns, SHAPE[axis])
    box = [(rows // 5, columns // 5), (rows * 3 // 5, columns * 4 // 5)]
    line = [(rows // 3, c) for c in range(columns // 4, columns // 2)]

    client.prompt("box", box, axis, middle)
    client.prompt("point", [(rows // 2, columns // 2)], axis, middle)
    client.prompt("point", [(rows - 2, columns - 2)], axis, middle, label=0)
    client.prompt("scribble", line, axis, middle + 1, number=client.ok("POST", "objects", json={})["object"])
    client.ok("POST", "propagation", json={})
    progress = client.wait()
    assert progress["done"] == progress["total"] > 0 and progress["error"] is None

    beside.add_box(*(voxels[p].tolist() for p in box), 1, axis)
    beside.predict_slice()
    beside.add_points([voxels[rows // 2, columns // 2].tolist()], 1, 1, axis)
    beside.predict_slice()
    beside.add_points([voxels[rows - 2, columns - 2].tolist()], 0, 1, axis)
    beside.predict_slice()
    beside.add_scribble([beyond[p].tolist() for p in line], 1, 2, axis)
    beside.predict_slice()
    beside.propagate()
    expected = beside.labels()
    assert set(np.unique(expected)) == {0, 1, 2}
    saved = client.saved(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved), expected)
    np.testing.assert_allclose(saved.GetDirection(), OBLIQUE.reshape(-1), atol=1e-6)
    assert saved.GetOrigin() == pytest.approx((12.0, -34.0, 56.0))
    for index in (0, middle, SHAPE[axis] - 1):
        seen = shown(volume, axis, index)
        np.testing.assert_array_equal(client.plane("labels", view, index), expected[tuple(np.moveaxis(seen, -1, 0))])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_intensities_are_those_of_the_file(client, tmp_path, dtype):
    array = (phantom(SHAPE) * 0.2 - (0 if dtype == np.uint8 else 1024.5)).astype(dtype)
    info = client.open(write(tmp_path / "image.mha", array, OBLIQUE))["image"]
    volume = read_volume(tmp_path / "image.mha")
    low, step = info["voxels"]["low"], info["voxels"]["step"]
    for axis, view in enumerate(info["views"]):
        index = SHAPE[axis] - 2
        seen = shown(volume, axis, index)
        expected = array[tuple(np.moveaxis(seen, -1, 0))]
        found = low + step * client.plane("slices", view, index)
        # a step is a 65535th of all intensities, and 1 for whole numbers
        np.testing.assert_allclose(found, expected, atol=0 if np.issubdtype(dtype, np.integer) else step / 2 + 1e-4)
        assert view["pixel"] == pytest.approx(
            [
                np.linalg.norm(np.diff(volume.to_physical(seen[:2, 0]), axis=0)),
                np.linalg.norm(np.diff(volume.to_physical(seen[0, :2]), axis=0)),
            ]
        )


def test_planes_are_named_as_the_patient_lies(client, image):
    views = client.open(image)["image"]["views"]
    # z runs along the patient's left, y along the head, x along the front
    assert [(view["name"], view["edges"]) for view in views] == [
        ("sagittal", "APSI"),
        ("axial", "RLAP"),
        ("coronal", "RLSI"),
    ]


def test_a_window_is_the_sessions(client, beside, image):
    assert client.open(image, window=[300, 500])["image"]["window"] == [50, 550]
    beside.set_image(image, window=(300, 500))
    client.prompt("box", [(3, 3), (25, 30)], 0)
    voxels = shown(beside.image, 0, 4)
    beside.add_box(voxels[3, 3].tolist(), voxels[25, 30].tolist())
    found = client.plane("labels", client.ok("GET", "session")["image"]["views"][0], 4)
    np.testing.assert_array_equal(found > 0, beside.image.view(0).plane(beside.predict_slice().mask))


# ---- objects and steps


def test_a_lasso_adds_and_takes_away_exactly_its_region(client, image):
    view = client.open(image)["image"]["views"][1]

    def outline(first_row, last_row, first_column, last_column):
        """Around the centres of these pixels."""
        rows, columns = (first_row - 0.5, last_row + 0.5), (first_column - 0.5, last_column + 0.5)
        return [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])]

    expected = np.zeros((view["rows"], view["columns"]), int)
    for label, region in [(1, (2, 20, 1, 6)), (0, (0, 6, 0, 8)), (1, (30, 33, 2, 3))]:
        client.prompt("lasso", outline(*region), 1, 20, label)
        expected[region[0] : region[1] + 1, region[2] : region[3] + 1] = label
        np.testing.assert_array_equal(client.plane("labels", view, 20), expected)


def test_undo_and_redo(client, image):
    view = client.open(image)["image"]["views"][0]
    client.prompt("box", [(3, 3), (25, 30)])
    client.ok("POST", "propagation", json={"objects": [1]})
    client.wait()
    before = [client.plane("labels", view, k) for k in range(SHAPE[0])]
    client.prompt("point", [(20, 20)], label=0)
    after = [client.plane("labels", view, k) for k in range(SHAPE[0])]
    assert any((a != b).any() for a, b in zip(before, after))
    undone = client.ok("POST", "undo")
    state = undone["state"]
    assert undone["changed"] == ["Object 1"] and state["objects"][0]["propagated"]
    assert state["objects"][0]["prompts"][0]["points"] == [] and state["can_undo"] and state["can_redo"]
    np.testing.assert_array_equal([client.plane("labels", view, k) for k in range(SHAPE[0])], before)
    state = client.ok("POST", "redo")["state"]
    assert not state["can_redo"] and state["objects"][0]["propagated"]
    np.testing.assert_array_equal([client.plane("labels", view, k) for k in range(SHAPE[0])], after)
    assert "nothing to redo" in client.refused("POST", "redo")
    client.ok("POST", "undo")
    state = client.ok("POST", "undo")["state"]
    assert not state["can_undo"] and not state["objects"][0]["propagated"]
    assert not any(client.plane("labels", view, k).any() for k in range(SHAPE[0]))
    assert "nothing to undo" in client.refused("POST", "undo")


def test_objects_have_names_colours_and_locks(client, image):
    state = client.open(image)["state"]
    assert [one["name"] for one in state["objects"]] == ["Object 1"]
    client.prompt("box", [(3, 3), (25, 30)])
    change = {"name": "  Liver ", "colour": "#12ab9F", "protected": True}
    (one,) = client.ok("PATCH", "objects/1", json=change)["state"]["objects"]
    assert (one["name"], one["colour"], one["protected"]) == ("Liver", "#12ab9F", True)
    for method, path, body in [
        ("POST", "prompts", {"kind": "point", "object": 1, "axis": 0, "index": 4, "points": [[5, 5]]}),
        ("POST", "propagation", {"objects": [1]}),
        ("DELETE", "objects/1", None),
    ]:
        assert "Liver is locked" in client.refused(method, path, json=body)
    assert "locked" in client.refused("POST", "propagation", json={})
    second = client.ok("POST", "objects", json={"name": "Spleen"})
    assert second["object"] == 2 and second["state"]["objects"][1]["name"] == "Spleen"


def test_a_locked_object_keeps_its_voxels(client, image, tmp_path):
    client.open(image)
    client.prompt("lasso", [(2, 2), (2, 20), (20, 20), (20, 2)])
    before = sitk.GetArrayFromImage(client.saved(tmp_path)) == 1
    client.ok("PATCH", "objects/1", json={"protected": True})
    client.ok("POST", "objects", json={})
    client.prompt("lasso", [(10, 10), (10, 30), (30, 30), (30, 10)], number=2)
    labels = sitk.GetArrayFromImage(client.saved(tmp_path))
    np.testing.assert_array_equal(labels == 1, before)
    assert (labels == 2).any()
    client.ok("POST", "undo")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(client.saved(tmp_path)), before)


def test_a_removed_object_comes_back_with_its_name(client, image):
    client.open(image)
    client.ok("PATCH", "objects/1", json={"name": "Liver"})
    client.prompt("box", [(3, 3), (25, 30)])
    objects = client.ok("DELETE", "objects/1")["state"]["objects"]
    assert [one["id"] for one in objects] == [2]  # there is always one to draw
    objects = client.ok("POST", "undo")["state"]["objects"]
    assert [(one["id"], one["name"], len(one["prompts"])) for one in objects] == [(1, "Liver", 1), (2, "Object 2", 0)]


# ---- propagation


def test_a_propagation_can_be_stopped_and_is_ended_by_a_prompt(client, tmp_path):
    view = client.open(write(tmp_path / "long.nrrd", phantom((60, 24, 24))))["image"]["views"][0]
    client.prompt("box", [(4, 4), (18, 18)], index=30)
    client.ok("POST", "propagation", json={"objects": [1], "axis": 0, "slices": [20, 59]})
    client.wait(lambda progress: progress.get("done", 0) >= 5)
    progress = client.ok("POST", "propagation/stop")["state"]["propagation"]
    assert not progress["running"] and 5 <= progress["done"] < progress["total"] == 40
    assert client.wait() == client.ok("GET", "progress")
    reached = [k for k in range(60) if client.plane("labels", view, k).any()]
    # nearest slices first: both directions have come about as far
    assert reached and 30 - reached[0] >= 1 and reached[-1] - 30 >= 1
    client.ok("POST", "propagation", json={})
    client.wait(lambda progress: progress.get("done", 0) >= 3)
    client.prompt("point", [(12, 12)], index=30)
    assert not client.ok("GET", "progress")["running"]


def test_mistakes_of_a_propagation_are_told_at_once(client, image):
    client.open(image)
    assert "no prompts" in client.refused("POST", "propagation", json={})
    client.prompt("box", [(3, 3), (25, 30)])
    assert "no prompt on slices 6 to 8" in client.refused("POST", "propagation", json={"axis": 0, "slices": [6, 8]})
    assert not client.ok("GET", "progress")["running"]


# ---- files


def test_formats(client, image, tmp_path):
    client.open(image)
    client.prompt("box", [(3, 3), (25, 30)])
    arrays = [sitk.GetArrayFromImage(client.saved(tmp_path, ending)) for ending in (".nii.gz", ".nii", ".nrrd", ".mha")]
    assert arrays[0].any() and all((array == arrays[0]).all() for array in arrays)
    answer = client.ask("GET", "segmentation", params={"ending": ".nii.gz"})
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''patient_1_segmentation.nii.gz"
    assert ".exe" in client.refused("GET", "segmentation", params={"ending": ".exe"})
    assert "no DICOM series" in client.refused("GET", "segmentation", params={"ending": ".dcm"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("肝脏 CT.nrrd", "%E8%82%9D%E8%84%8F_CT_prompts.json"),
        ("../../x\r\nSet: 1", "x__Set__1_prompts.json"),
    ],
)
def test_names_of_images_are_shown_and_given_to_files(client, image, name, expected):
    assert client.ok("POST", "open", json={**client.sent(image), "name": name})["image"]["name"] == name
    client.prompt("box", [(3, 3), (25, 30)])
    assert client.ask("GET", "prompts").headers["content-disposition"] == f"attachment; filename*=utf-8''{expected}"
    assert client.ok("GET", "segmentation", params={"ending": ".nii.gz"})


def test_a_dicom_series_and_its_segmentation(client, tmp_path):
    import highdicom

    array = (phantom(SHAPE) - 200).astype(np.int16)
    write_series(tmp_path / "series", array)
    info = client.open(*sorted((tmp_path / "series").iterdir()))["image"]
    assert info["dicom"] and info["modality"] == "CT" and tuple(info["shape"]) == SHAPE
    client.prompt("box", [(3, 3), (25, 30)], index=4)
    (tmp_path / "seg.dcm").write_bytes(client.ok("GET", "segmentation", params={"ending": ".dcm"}))
    frames = highdicom.seg.segread(str(tmp_path / "seg.dcm")).pixel_array
    view = info["views"][0]
    assert frames.sum() == sum((client.plane("labels", view, k) > 0).sum() for k in range(SHAPE[0])) > 0


def test_without_a_dicom_seg_the_page_is_told_so_and_no_file_is_named(client, tmp_path, monkeypatch):
    write_series(tmp_path / "series", (phantom(SHAPE) - 200).astype(np.int16))
    client.open(*sorted((tmp_path / "series").iterdir()))
    client.prompt("box", [(3, 3), (25, 30)], index=4)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "highdicom", None)
        assert "DICOM SEG needs highdicom" in client.refused("GET", "segmentation", params={"ending": ".dcm"})
    monkeypatch.setattr(dicom_seg, "source_images", lambda volume: volume.nothing)
    sentence = client.refused("GET", "segmentation", params={"ending": ".dcm"})
    assert "no DICOM SEG could be written" in sentence and "nothing" in sentence and ".nii.gz" not in sentence


# ---- bad input

PROMPT = {"kind": "point", "object": 1, "axis": 0, "index": 4, "points": [[5, 5]]}


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "prompts", PROMPT | {"axis": 3}, "axis"),
        ("POST", "prompts", PROMPT | {"index": 9}, "slice 9"),
        ("POST", "prompts", PROMPT | {"index": -1}, "slice -1"),
        ("POST", "prompts", PROMPT | {"index": 1.5}, "index"),
        ("POST", "prompts", PROMPT | {"object": 7}, "no object 7"),
        ("POST", "prompts", PROMPT | {"label": 2}, "label"),
        ("POST", "prompts", PROMPT | {"kind": "text"}, "kind"),
        ("POST", "prompts", PROMPT | {"points": []}, "points"),
        ("POST", "prompts", PROMPT | {"points": [[5]]}, "points"),
        ("POST", "prompts", PROMPT | {"points": [[500, 5]]}, "outside the image"),
        ("POST", "prompts", PROMPT | {"points": [["nan", 5]]}, "finite"),
        ("POST", "prompts", PROMPT | {"points": [[5, 5]] * 20_001}, "points"),
        ("POST", "prompts", PROMPT | {"kind": "lasso", "points": [[1e300, 1], [2e300, 5], [1e300, 9]]}, "empty"),
        ("POST", "prompts", PROMPT | {"kind": "box"}, "empty"),
        ("POST", "prompts", PROMPT | {"kind": "lasso", "label": 0}, "empty"),
        ("POST", "prompts", {}, "kind"),
        ("POST", "prompts", [1, 2], "body"),
        ("PATCH", "objects/1", {"colour": "red"}, "colour"),
        ("PATCH", "objects/1", {"name": "x" * 200}, "name"),
        ("PATCH", "objects/9", {"name": "x"}, "no object 9"),
        ("PATCH", "objects/1", {"protected": True}, "no object 1"),
        ("DELETE", "objects/9", None, "no object 9"),
        ("POST", "propagation", {"direction": "up"}, "direction"),
        ("POST", "propagation", {"slices": [1]}, "slices"),
        ("POST", "propagation", {"objects": [9]}, "no object 9"),
        ("POST", "open", {"path": "x", "window": "dark"}, "--folder"),
        ("POST", "open", {}, "nothing to open"),
        ("POST", "open", {"batch": "x"}, "no longer on the server"),
        ("POST", "segmentation", {"batch": "x", "name": "../x.nii"}, "no longer on the server"),
        ("POST", "segmentation", {"name": "x.nii"}, "batch"),
        ("GET", "slices/0/9", None, "slice 9"),
        ("GET", "slices/5/0", None, "axis"),
        ("GET", "slices/a/b", None, "axis"),
        ("GET", "labels/0/-1", None, "slice -1"),
        ("GET", "surface/9", None, "no object 9"),
        ("GET", "segmentation", None, "ending"),
        ("PUT", "files?name=a", None, "batch"),
        ("PUT", "files?batch=x&name=a", None, "no longer on the server"),
    ],
)
def test_mistakes_are_told_in_a_sentence_and_change_nothing(serve, image, method, path, body, words):
    client = Client(serve().url)
    before = client.open(image)
    assert words in client.refused(method, path, json=body)
    assert client.ok("GET", "session") == before


def test_calls_without_an_image_are_told_so(client):
    for method, path in [("POST", "undo"), ("GET", "slices/0/0"), ("GET", "progress"), ("GET", "prompts")]:
        assert "open one first" in client.refused(method, path)
    assert client.ok("GET", "session") == {"image": None, "state": None}
