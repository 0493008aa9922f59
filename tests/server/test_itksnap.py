"""ITK-SNAP's calls in its order, as its client in C++ sends them, beside a session in this process."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
import time

import httpx
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nnunetv2_sam2_3dmed.images.volume import volume_from_array
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.server.app import create_app
from nnunetv2_sam2_3dmed.server.interactions import Drawing, points_of_stroke
from nnunetv2_sam2_3dmed.server.opened import open_image, opened
from nnunetv2_sam2_3dmed.server.sessions import content_key
from nnunetv2_sam2_3dmed.server.settings import Settings
from tests.interactive.reference import phantom

SPACING = (2.0, 1.0, 1.2)  # z, y, x
ORIGIN = (-20.0, 30.0, 5.0)
DIRECTION = Rotation.from_euler("xyz", (10, 20, -30), degrees=True).as_matrix() @ np.diag([-1, 1, -1])


@pytest.fixture
def image() -> np.ndarray:
    return phantom((6, 20, 24))


@pytest.fixture
def server(serve):
    return serve(sessions=2)


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def parts(array: np.ndarray, **other) -> dict:
    metadata = {
        "dimensions": array.shape[::-1],
        "spacing": SPACING[::-1],
        "origin": ORIGIN,
        "direction": DIRECTION.ravel().tolist(),
        "components_per_pixel": 1,
        "component_type": "float32",
    } | other
    content = gzip.compress(np.ascontiguousarray(array, "<f4").tobytes())
    return {
        "files": {"file": ("image.gz", content, "application/gzip")},
        "data": {"metadata": json.dumps(metadata)},
    }


def mask_of(answer: httpx.Response, shape) -> np.ndarray:
    assert answer.status_code == 200
    found = answer.json()
    assert found["status"] == "success"
    return np.frombuffer(gzip.decompress(base64.b64decode(found["result"])), np.int8).reshape(shape)


@pytest.mark.parametrize("v2", ["/v2", ""])
def test_the_sequence_of_calls(http, image, beside, v2):
    status = http.get("/status").json()
    assert status["status"] == "ok" and tuple(map(int, status["version"].split("."))) >= (0, 1, 2)
    (model,) = http.get("/v2/models").json()["models"]
    assert (model["dimensions"], model["channels"]) == (3, [1])
    session = http.get(f"/v2/start_session/{model['id']}" if v2 else "/start_session").json()["session_id"]
    answer = http.post(f"{v2}/upload_raw/{session}", params={"filename": "upload.nii.gz"}, **parts(image))
    assert answer.status_code == 200 and answer.json()["message"]
    beside.set_image(image, SPACING, origin=ORIGIN, direction=DIRECTION)

    def point(x, y, z, foreground):
        inside = "true" if foreground else "false"
        if v2:
            return http.get(
                f"/v2/process_point_interaction/{session}?point={x}&point={y}&point={z}&foreground={inside}"
            )
        params = {"x": x, "y": y, "z": z, "foreground": inside}
        return http.get(f"/process_point_interaction/{session}", params=params)

    def check(answer):
        beside.propagate()
        np.testing.assert_array_equal(mask_of(answer, image.shape), beside.mask())
        assert beside.mask().any()

    answer = point(12, 9, 3, True)
    beside.add_points([(3, 9, 12)])
    check(answer)
    row, column = np.argwhere(beside.mask()[2])[0]
    answer = point(int(column), int(row), 2, False)
    beside.add_points([(2, row, column)], 0)
    check(answer)
    plane = np.zeros(image.shape[1:], bool)
    plane[9:11, 4:20] = True
    drawn = np.zeros(image.shape)
    drawn[1] = plane
    answer = http.post(f"/process_scribble_interaction/{session}", params={"foreground": "true"}, **parts(drawn))
    beside.add_points(points_of_stroke(Drawing(0, 1, plane)))
    check(answer)
    # a lasso in another plane
    drawn = np.zeros(image.shape)
    drawn[1:5, 5:16, 10] = 1
    answer = http.post(f"/process_lasso_interaction/{session}", params={"foreground": "true"}, **parts(drawn))
    beside.add_mask((drawn[:, :, 10] > 0) | beside.mask()[:, :, 10], 10, axis=2)
    check(answer)
    assert http.get(f"{v2}/reset_interactions/{session}").json() == {"status": "success"}
    beside.reset()
    answer = point(10, 8, 2, True)
    beside.add_points([(2, 8, 10)])
    check(answer)
    assert http.get(f"{v2}/end_session/{session}").json() == {"message": "Session ended"}
    assert point(10, 8, 2, True).status_code == 404


def test_masks_are_whole_whatever_the_budget(serve, image, beside, monkeypatch):
    server = serve(budget_s=0)
    track = Engine.track
    monkeypatch.setattr(Engine, "track", lambda *args: time.sleep(0.1) or track(*args))
    beside.set_image(image, SPACING, origin=ORIGIN, direction=DIRECTION)
    beside.add_points([(3, 9, 12)])
    beside.propagate()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        session = http.get("/start_session").json()["session_id"]
        http.post(f"/upload_raw/{session}", **parts(image))
        answer = http.get(f"/process_point_interaction/{session}?x=12&y=9&z=3")
    np.testing.assert_array_equal(mask_of(answer, image.shape), beside.mask())
    assert beside.mask().any(axis=(1, 2)).all()


def test_a_server_that_ends_waits_for_no_propagation(model, image, monkeypatch):
    began = threading.Event()
    track = Engine.track

    def slow(*args):
        began.set()
        time.sleep(1)
        return track(*args)

    monkeypatch.setattr(Engine, "track", slow)
    app = create_app(Settings(model=model, device="cpu", precision="float32"))
    state = app.state.server
    volume = volume_from_array(np.repeat(image, 5, axis=0), SPACING)

    def segment() -> None:
        with state.leases.use(state.leases.claim().token) as lease:
            open_image(state, lease, volume, content_key(volume), budget_s=60)
            opened(lease).set_buffer(np.dtype(np.int8))
            opened(lease).add_point((3, 9, 12), True, run=True)

    waiting = threading.Thread(target=segment)

    async def live() -> float:
        async with app.router.lifespan_context(app):
            waiting.start()
            assert began.wait(20)
            ended = time.monotonic()
        return time.monotonic() - ended

    assert asyncio.run(live()) < 10  # of 29 steps, the one that ran
    waiting.join(60)
    assert not waiting.is_alive()


def test_each_client_has_a_session_of_its_own(http, image, server):
    first, second = (http.get("/start_session").json()["session_id"] for _ in range(2))
    assert first != second
    full = http.get("/start_session")
    assert full.status_code == 503 and "all 2 sessions" in full.json()["detail"]
    other = image[::-1].copy()
    http.post(f"/upload_raw/{first}", **parts(image))
    http.post(f"/upload_raw/{second}", **parts(other))
    masks = [
        mask_of(http.get(f"/process_point_interaction/{one}?x=12&y=9&z=3"), image.shape) for one in (first, second)
    ]
    assert (masks[0] != masks[1]).any()
    again = mask_of(http.get(f"/process_point_interaction/{first}?x=12&y=9&z=99"), image.shape)  # outside
    np.testing.assert_array_equal(again, masks[0])


@pytest.mark.parametrize(
    ("metadata", "status", "said"),
    [
        ({"dimensions": [24, 20]}, 400, "metadata.dimensions"),
        ({"dimensions": [24, 20, 5]}, 400, "holds more bytes"),
        ({"dimensions": [24, 20, 7]}, 400, "13440 are expected"),
        ({"dimensions": [24000, 20000, 700]}, 413, "this server takes 4096 MiB"),
        ({"dimensions": [-24, 20, 6]}, 400, "greater than 0"),
        ({"components_per_pixel": 3}, 400, "components_per_pixel"),
        ({"component_type": "int16"}, 400, "component_type"),
        ({"spacing": [1, 0, 1]}, 400, "spacing"),
        ({"direction": [1, 0, 0, 0, 1, 0, 0, 0, 0]}, 400, "direction"),
    ],
)
def test_volumes_that_are_none(http, image, metadata, status, said):
    session = http.get("/start_session").json()["session_id"]
    http.post(f"/upload_raw/{session}", **parts(image))
    before = mask_of(http.get(f"/process_point_interaction/{session}?x=12&y=9&z=3"), image.shape)
    answer = http.post(f"/upload_raw/{session}", **parts(image, **metadata))
    assert answer.status_code == status and said in answer.json()["detail"]
    after = mask_of(http.get(f"/process_point_interaction/{session}?x=99&y=9&z=3"), image.shape)
    np.testing.assert_array_equal(after, before)


def test_bodies_that_are_no_volume(http, image):
    session = http.get("/start_session").json()["session_id"]
    for given, said in (
        ({"content": b"no form"}, "'file'"),
        ({"data": {"metadata": "{}"}}, "'file'"),
        ({"files": parts(image)["files"]}, "'metadata'"),
        (parts(image) | {"files": {"file": ("image.gz", b"no gzip")}}, "cannot be unpacked"),
        (parts(image) | {"data": {"metadata": "no JSON"}}, "JSON"),
        (parts(np.full_like(image, np.nan)), "NaN"),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "."),
    ):
        answer = http.post(f"/upload_raw/{session}", **given)
        assert answer.status_code == 400 and said in answer.json()["detail"]


def test_calls_in_the_wrong_order(http, image):
    assert http.get("/v2/start_session/other").status_code == 404
    session = http.get("/start_session").json()["session_id"]
    for path in (f"/process_point_interaction/{session}?x=1&y=2&z=3", f"/reset_interactions/{session}"):
        answer = http.get(path)
        assert answer.status_code == 400 and "no image yet" in answer.json()["detail"]
    assert http.get("/process_point_interaction/unknown?x=1&y=2&z=3").status_code == 404
    assert http.post("/upload_raw/unknown", **parts(image)).status_code == 404
    for query in ("x=1&y=2", "x=a&y=2&z=3", "x=nan&y=2&z=3"):
        assert http.get(f"/process_point_interaction/{session}?{query}").status_code == 400
    assert http.get(f"/v2/process_point_interaction/{session}?point=1&point=2").status_code == 400
    assert http.get("/end_session/unknown").status_code == 200
