"""Slips of users and mistakes of clients in nnInteractive's protocol: a sentence, and the object as it was."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from nnInteractive.inference.remote.serialization import pack_array

from tests.server.conftest import SPACING, begin, connect, meta, raw

EMPTY = np.zeros((1, 4, 4), np.uint8)
THICK = np.ones((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        (lambda c: c.add_point_interaction([3, 20, 48], True), "outside the image of 7 x 40 x 48"),
        (lambda c: c.add_point_interaction([-9, 20, 4], False), "outside"),
        (lambda c: c.add_bbox_interaction([[3, 4], [40, 50], [0, 9]], True), "outside"),
        (lambda c: c.add_bbox_interaction([[3, 4], [5, 6], [0, 9]], True), "is empty"),
        (lambda c: c.add_bbox_interaction([[1, 3], [2, 9], [2, 9]], True), "2 x 7 x 7 voxels"),
        (lambda c: c.add_bbox_interaction([[6, 9], [2, 9], [2, 9]], True), "3 x 7 x 7 voxels"),
        (lambda c: c.add_bbox_interaction([[1, 1], [2, 9], [2, 9]], True), "from 1 to 1 along axis 0"),
        (lambda c: c.add_scribble_interaction(EMPTY, True, interaction_bbox=[[3, 4], [0, 4], [0, 4]]), "empty"),
        (lambda c: c.add_lasso_interaction(EMPTY, False, interaction_bbox=[[3, 4], [0, 4], [0, 4]]), "empty"),
        (lambda c: c.add_scribble_interaction(THICK, True, interaction_bbox=[[3, 5], [0, 4], [0, 4]]), "2 x 4 x 4"),
        (lambda c: c.add_lasso_interaction(THICK, True, interaction_bbox=[[3, 5], [0, 4], [0, 4]]), "2 x 4 x 4"),
    ],
)
def test_slips_of_the_user_change_nothing(server, client, image, beside, slip, said):
    buffer = begin(client, image)
    beside.set_image(image, SPACING)
    client.add_bbox_interaction([[3, 4], [10, 30], [12, 34]], True)
    beside.add_box((3, 10, 12), (3, 29, 33))
    beside.propagate()
    heard = []
    client._http.event_hooks["response"] = [lambda answer: heard.append(json.loads(answer.headers.get("X-Meta", "{}")))]
    earlier = buffer.copy()
    assert slip(client) is None
    np.testing.assert_array_equal(buffer, earlier)
    assert said in heard[0]["message"] and heard[0]["ran_prediction"] and heard[0]["bbox"] is None
    client.add_point_interaction([4, 20, 24], True)
    beside.add_points([(4, 20, 24)])
    beside.propagate()
    np.testing.assert_array_equal(buffer, beside.mask())
    assert client.undo()
    beside.undo()
    np.testing.assert_array_equal(buffer, beside.mask())


def test_negative_prompts_where_nothing_is_segmented_change_nothing(server, client, image):
    buffer = begin(client, image)
    with raw(server, client) as http:
        answer = http.post("/add_point_interaction", json={"coordinates": [3, 1, 1], "include_interaction": False})
    assert meta(answer)["message"] == "nothing is segmented on slice 3 along axis 0."
    assert not buffer.any() and not client.undo()
    client.add_point_interaction([3, 20, 24], True)
    earlier = buffer.copy()
    row, column = np.argwhere(buffer[3] == 0)[0]
    with raw(server, client) as http:
        box = [[3, 4], [int(row), int(row) + 1], [int(column), int(column) + 1]]
        headers = {"X-Meta": json.dumps({"include_interaction": False, "interaction_bbox": box})}
        answer = http.post("/add_lasso_interaction", content=pack_array(np.ones((1, 1, 1), np.uint8)), headers=headers)
    assert meta(answer) == {
        "ran_prediction": True,
        "bbox": None,
        "message": "nothing is segmented inside the lasso.",
    }
    np.testing.assert_array_equal(buffer, earlier)


def test_a_slice_without_contrast_is_a_slip(server, client, image):
    flat = image.copy()
    flat[5] = flat.min()
    begin(client, flat)
    with raw(server, client) as http:
        answer = http.post("/add_point_interaction", json={"coordinates": [5, 1, 1], "include_interaction": True})
    assert "slice 5 along axis 0 shows nothing" in meta(answer)["message"]


POINT = {"coordinates": [3, 20, 24], "include_interaction": True}
MASK = pack_array(np.ones((1, 4, 4), np.uint8))


def _drawing(box=None) -> dict:
    return {"X-Meta": json.dumps({"include_interaction": True, "interaction_bbox": box})}


@pytest.mark.parametrize(
    ("path", "given", "status", "said"),
    [
        ("/add_point_interaction", {"json": {"coordinates": [1, 2], "include_interaction": True}}, 400, "coordinates"),
        ("/add_point_interaction", {"json": {"coordinates": [1, 2, 3]}}, 400, "include_interaction"),
        ("/add_point_interaction", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
        ("/add_point_interaction", {"content": b'{"coordinates": [1, NaN, 3], "include_interaction": true}',
                                    "headers": {"Content-Type": "application/json"}}, 400, "finite"),
        ("/add_point_interaction", {}, 400, "the body cannot be read"),
        ("/add_scribble_interaction", {"content": MASK, "headers": _drawing()}, 400, "interaction_bbox"),
        ("/add_scribble_interaction", {"content": MASK, "headers": _drawing([[0, 1], [0, 4], [0, 5]])}, 400,
         "1 x 4 x 5"),
        ("/add_lasso_interaction", {"content": MASK, "headers": _drawing([[0, 1], [-1, 3], [0, 4]])}, 400,
         "inside the"),
        ("/add_lasso_interaction", {"content": b"NNIA", "headers": _drawing()}, 400, "truncated"),
        ("/add_lasso_interaction", {"content": MASK, "headers": {"X-Meta": "no JSON"}}, 400, "JSON"),
        ("/add_initial_seg_interaction", {"content": MASK}, 400, "the mask has 1 x 4 x 4 voxels, but the image 7 x 40"),
        ("/set_target_buffer", {"json": {"shape": [7, 40, 47], "dtype": "uint8"}}, 400, "7 x 40 x 47"),
        ("/set_target_buffer", {"json": {"shape": [7, True, 48], "dtype": "uint8"}}, 400, "shape.1"),
        ("/set_target_buffer", {"json": {"shape": [7, 40, 48], "dtype": "float32"}}, 400, "dtype"),
        ("/set_target_buffer", {"json": {"shape": [7, 40, 48], "dtype": "uint64"}}, 413, "use uint8"),
        ("/set_image", {"content": pack_array(np.ones((2, 3, 4, 5)))}, 400, "2 x 3 x 4 x 5"),
        ("/set_image", {"content": pack_array(np.ones((4, 5)))}, 400, "4 x 5"),
        ("/set_image", {"content": pack_array(np.full((1, 3, 4, 5), np.nan))}, 400, "NaN"),
        ("/set_image", {"content": pack_array(np.ones((1, 3, 4, 5), bool))}, 400, "bool"),
        ("/set_image", {"content": pack_array(np.ones((1, 50, 40, 40)))}, 413, "this server takes 0 MiB"),
        ("/set_image", {"content": pack_array(np.ones((1, 3, 4, 5))),
                        "headers": {"X-Meta": '{"image_properties": {"spacing": [1, 0, 1]}}'}}, 400, "spacing"),
        ("/set_image", {"content": pack_array(np.ones((1, 3, 4, 5))),
                        "headers": {"X-Meta": '{"image_properties": {"direction": [1, 0, 0]}}'}}, 400, "direction"),
        ("/nothing_here", {}, 404, "/nothing_here"),
        ("/undo/", {}, 404, "/undo/"),
    ],
)  # fmt: skip
def test_mistakes_of_the_client_are_a_sentence_and_change_nothing(serve, image, path, given, status, said):
    server = serve(largest_image_bytes=100_000)
    with connect(server) as client:
        buffer = begin(client, image)
        client.add_point_interaction([3, 20, 24], True)
        earlier = buffer.copy()
        with raw(server, client) as http:
            answer = http.post(path, **given)
        detail = answer.json()["detail"]
        assert answer.status_code == status and said in detail and detail.endswith(".") and "\n" not in detail
        assert client.undo() and not buffer.any()
        client.add_point_interaction([3, 20, 24], True)
        np.testing.assert_array_equal(buffer, earlier)


@pytest.mark.parametrize("path", ["/add_point_interaction", "/undo", "/predict", "/reset_interactions"])
def test_calls_before_there_is_an_image(server, client, path):
    with raw(server, client) as http:
        answer = http.post(path, json=POINT)
    assert answer.status_code == 400 and answer.json()["detail"] == "there is no image yet: send one first."


@pytest.mark.parametrize("path", ["/add_point_interaction", "/undo", "/predict"])
def test_calls_before_there_is_a_buffer(server, client, image, path):
    client.set_image(image[None])
    with raw(server, client) as http:
        answer = http.post(path, json=POINT)
        assert answer.status_code == 400 and "no target buffer" in answer.json()["detail"]
        assert http.post("/reset_interactions", json={}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/set_image", "/set_target_buffer", "/add_point_interaction", "/undo", "/predict", "/heartbeat", "/lease_status"],
)
def test_calls_without_a_lease(server, path):
    body = {"content": pack_array(np.ones((1, 3, 4, 5)))} if path == "/set_image" else {"json": POINT}
    if path == "/set_target_buffer":
        body = {"json": {"shape": [1, 2, 3], "dtype": "uint8"}}
    method = "GET" if path == "/lease_status" else "POST"
    for headers in ({}, {"X-Lease-Token": "0" * 32}):
        options = {"headers": headers, "trust_env": False, "timeout": 60, **({} if method == "GET" else body)}
        answer = httpx.request(method, server.url + path, **options)
        assert answer.status_code == 410
