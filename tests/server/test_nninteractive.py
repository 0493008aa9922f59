"""nnInteractive's official client against a server on a real socket, beside a session in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from nnInteractive.inference.remote import ServerAtCapacityError, SessionExpiredError
from nnInteractive.inference.remote.serialization import unpack_array
from scipy.spatial.transform import Rotation

from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.server.interactions import Drawing, points_of_stroke
from tests.interactive.reference import phantom
from tests.server.conftest import SPACING, begin, connect, meta, raw, running

OBLIQUE = Rotation.from_euler("xyz", (20, -15, 30), degrees=True).as_matrix()
# columns are the directions of x, y and z: permuted, two of them flipped, and turned
TURNED = OBLIQUE @ np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], dtype=float).T


def disc(shape, centre, radius) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def on_slice(shape, axis: int, index: int, plane: np.ndarray) -> np.ndarray:
    """A volume, uint8, with a mask on one slice."""
    volume = np.zeros(shape, np.uint8)
    np.moveaxis(volume, axis, 0)[index] = plane
    return volume


def test_all_calls_in_the_order_of_a_viewer(serve, image, beside):
    server = serve(sessions=1, key="secret")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        connect(server, api_key="wrong")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        connect(server)
    beside.set_image(image, SPACING)
    with connect(server, api_key="secret") as client:
        assert client.supported_interactions == {
            "points": True,
            "bbox2d": True,
            "bbox3d": False,
            "scribble": True,
            "lasso": True,
        }
        assert client.supports_undo and client.supports_initial_label
        assert list(client.preferred_scribble_thickness) == [2, 2, 2]
        assert (client.idle_timeout_seconds, client.liveness_timeout_seconds) == (600, 60)
        with pytest.raises(ServerAtCapacityError, match="all 1 sessions"):
            connect(server, api_key="secret")
        client.set_do_autozoom(True)  # before there is any image
        buffer = begin(client, image)
        assert client.original_image_shape == (1, *image.shape)

        def check(session=beside):
            session.propagate()
            np.testing.assert_array_equal(buffer, session.mask())
            assert buffer.any()

        # at the border, between voxels
        assert client.add_point_interaction([2.5, -0.4, 20.4], True) is not None
        beside.add_points([(2, 0, 20)])
        check()
        client.add_bbox_interaction([[3, 4], [-2.4, 25.5], [10, 60]], True)
        beside.add_box((3, 0, 10), (3, 25, 47))
        check()
        stroke = np.zeros((1, 9, 30), np.uint8)
        stroke[0, 3:6, 2:28] = 1
        client.add_scribble_interaction(stroke, True, interaction_bbox=[[5, 6], [15, 24], [8, 38]])
        plane = np.zeros(image.shape[1:], bool)
        plane[18:21, 10:36] = True
        beside.add_points(points_of_stroke(Drawing(0, 5, plane)), 1)
        check()
        before = beside.mask()
        lasso = disc(image.shape[1:], (20, 24), 6)
        assert (before[5] & lasso).any() and (before[5] & ~lasso).any()
        client.add_lasso_interaction(on_slice(image.shape, 0, 5, lasso), False)
        beside.add_mask(before[5] & ~lasso, 5)
        check()
        assert not (buffer[5] & lasso).any()
        earlier = buffer.copy()
        assert client.add_point_interaction([1, 20, 20], True, run_prediction=False) is None
        assert client.add_point_interaction([1, 5, 5], False, run_prediction=False) is None
        np.testing.assert_array_equal(buffer, earlier)
        assert client._predict() is not None
        beside.add_points([(1, 20, 20)])
        beside.add_points([(1, 5, 5)], 0)
        check()
        assert client._predict() is None
        # as it was before the second point, when the first one waited for a prediction
        assert client.undo() is True
        np.testing.assert_array_equal(buffer, earlier)
        assert client.undo() is False
        assert client._predict() is not None
        beside.undo()
        check()
        client.reset_interactions()
        assert not buffer.any()
        assert client.undo() is False
        assert client._predict() is None

        start = np.zeros(image.shape, np.uint8)
        start[2:5, 8:30, 10:34] = 1
        assert client.add_initial_seg_interaction(start[:, ::-1]) is None
        np.testing.assert_array_equal(buffer, start[:, ::-1])
        beside.reset()
        beside.set_start(start)
        # instead of the one before, and as it is: there is no prompt yet to refine it
        client.add_initial_seg_interaction(start, run_prediction=True)
        np.testing.assert_array_equal(buffer, start)
        client.add_point_interaction([3, 20, 40], True)
        beside.add_points([(3, 20, 40)])
        check()

        second = image[:5, :30].copy()
        client.set_image(second[None], {"spacing": SPACING})
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            client.add_point_interaction([2, 20, 20], True)  # the buffer went with the image
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            client.set_target_buffer(np.zeros(image.shape, np.uint8))
        buffer = np.zeros(second.shape, np.uint16)
        client.set_target_buffer(buffer)
        client.add_point_interaction([2, 20, 20], True)
        beside.set_image(second, SPACING)
        beside.add_points([(2, 20, 20)])
        check()
        token = client._lease_token
        assert (
            client.ping() and 500 < client.heartbeat() <= 600 and client.lease_status()["idle_timeout_seconds"] == 600
        )
    headers = {"X-Lease-Token": token, "Authorization": "Bearer secret"}
    answer = httpx.post(f"{server.url}/undo", headers=headers, timeout=60)
    assert answer.status_code == 410 and "connect again" in answer.json()["detail"]


@pytest.mark.parametrize("direction", [None, TURNED], ids=["unknown orientation", "permuted, flipped and oblique"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_prompts_of_each_kind_in_each_plane(client, beside, axis, direction):
    image, spacing = phantom((8, 14, 16)), (2.7, 1.3, 0.9)
    buffer = begin(client, image, spacing, None if direction is None else direction.ravel())
    beside.set_image(image, spacing, direction=direction)
    index = (3, 6, 8)[axis]
    shape = tuple(np.delete(image.shape, axis))
    rows, columns = shape
    ends = [[1, rows - 1], [3, columns - 2]]

    def voxel(row, column):
        return tuple(np.insert([row, column], axis, index))

    def check():
        beside.propagate()
        np.testing.assert_array_equal(buffer, beside.mask())
        assert buffer.any() and not buffer.all()

    client.add_bbox_interaction(np.insert(ends, axis, [index, index + 1], axis=0).tolist(), True)
    beside.add_box(voxel(1, 3), voxel(rows - 2, columns - 3), axis=axis)
    check()
    # a point that names no plane lies on that of the box
    point = voxel(rows // 2, columns // 2)
    client.add_point_interaction(point, True)
    beside.add_points([point], axis=axis)
    check()
    plane = np.zeros(shape, bool)
    plane[rows // 2, 2:-2] = True
    other = index + 1
    client.add_scribble_interaction(on_slice(image.shape, axis, other, plane), True)
    beside.add_points(points_of_stroke(Drawing(axis, other, plane)), axis=axis)
    check()
    plane = disc(shape, (rows / 2, columns / 3), rows / 3)
    volume = on_slice(image.shape, axis, index - 1, plane)
    crop = np.take(volume, [index - 1], axis)
    box = np.insert([[0, rows], [0, columns]], axis, [index - 1, index], axis=0).tolist()
    propagated = beside.mask().take(index - 1, axis)
    client.add_lasso_interaction(crop, True, interaction_bbox=box)
    beside.add_mask(plane | propagated, index - 1, axis=axis)
    check()
    # a second region joins the first one
    more = disc(shape, (rows / 2, 2 * columns / 3), rows / 4)
    client.add_lasso_interaction(on_slice(image.shape, axis, index - 1, more), True)
    beside.add_mask(plane | propagated | more, index - 1, axis=axis)
    check()
    # points outside in place of a box outside, on a slice that has a mask
    known = np.moveaxis(beside.mask(), axis, 0)
    outside = next(k for k in range(1, len(known)) if known[k].any() and k not in (index - 1, index, other))
    client.add_bbox_interaction(np.insert([[0, 5], [0, 9]], axis, [outside, outside + 1], axis=0).tolist(), False)
    spread = [(2, 4), (1, 2), (1, 6), (3, 2), (3, 6)]
    beside.add_points([np.insert(np.array(p, float), axis, outside) for p in spread], 0, axis=axis)
    check()


def test_prompts_in_two_planes_are_joined_as_in_a_session(client, image, beside):
    buffer = begin(client, image)
    beside.set_image(image, SPACING)
    for axis, box, corners in (
        (0, [[3, 4], [10, 30], [12, 34]], ((3, 10, 12), (3, 29, 33))),
        (1, [[1, 6], [20, 21], [10, 30]], ((1, 20, 10), (5, 20, 29))),
    ):
        client.add_bbox_interaction(box, True)
        beside.add_box(*corners, axis=axis)
        beside.propagate()
        np.testing.assert_array_equal(buffer, beside.mask())
    client.undo()
    beside.undo()
    np.testing.assert_array_equal(buffer, beside.mask())


def test_a_point_before_any_plane_takes_that_of_thick_slices(client, image, beside):
    turned = np.moveaxis(image, 0, 2)
    buffer = begin(client, turned, (1.0, 1.0, 3.0))
    beside.set_image(turned, (1.0, 1.0, 3.0))
    client.add_point_interaction([20, 24, 3], True)
    beside.add_points([(20, 24, 3)], axis=2)
    beside.propagate()
    np.testing.assert_array_equal(buffer, beside.mask())


def test_a_single_slice(client, image, beside):
    buffer = begin(client, image[3:4], (1.0, 1.0, 1.0))
    beside.set_image(image[3:4], (1.0, 1.0, 1.0))
    client.add_point_interaction([0, 20, 24], True)
    beside.add_points([(0, 20, 24)])
    beside.propagate()
    np.testing.assert_array_equal(buffer, beside.mask())


def test_delta_regions_are_the_smallest_boxes_of_changes(server, client, image):
    buffer = begin(client, image)
    with raw(server, client) as http:
        for call in ({"coordinates": [3, 20, 24]}, {"coordinates": [3, 8, 40]}):
            before = buffer.copy()
            answer = http.post("/add_point_interaction", json=call | {"include_interaction": True})
            said = meta(answer)
            region = tuple(slice(*ends) for ends in said["bbox"])
            values = unpack_array(answer.content)
            assert said["ran_prediction"] and said["dtype"] == "uint8" == values.dtype.name
            assert list(values.shape) == said["shape"]
            buffer[region] = values
            changed = np.argwhere(buffer != before)
            np.testing.assert_array_equal(
                said["bbox"], np.stack([changed.min(axis=0), changed.max(axis=0) + 1], axis=1)
            )


def track_with(monkeypatch, each: Callable[[int], None]) -> None:
    """Call ``each`` with the slice of every step of a propagation, numbered as the network sees it."""
    track = Engine.track

    def tracked(engine, features, index, *args):
        each(index)
        return track(engine, features, index, *args)

    monkeypatch.setattr(Engine, "track", tracked)


def test_with_no_time_the_prompted_slice_is_answered_and_the_rest_follows(serve, image, beside, monkeypatch):
    server = serve(budget_s=0)
    beside.set_image(image, SPACING)
    beside.add_box((3, 10, 12), (3, 29, 33))
    first = beside.predict_slice().mask
    beside.propagate()
    expected = beside.mask()
    assert all(plane.any() for plane in expected)
    track_with(monkeypatch, lambda _: time.sleep(0.2))
    with connect(server) as client:
        buffer = begin(client, image)
        client.add_bbox_interaction([[3, 4], [10, 30], [12, 34]], True)
        known = [k for k in range(7) if buffer[k].any()]
        assert 3 in known and len(known) < 7
        np.testing.assert_array_equal(buffer[3], first)
        np.testing.assert_array_equal(buffer[known], expected[known])
        until = time.monotonic() + 20
        while (buffer != expected).any() and time.monotonic() < until:
            client._predict()
        np.testing.assert_array_equal(buffer, expected)


def test_the_slices_nearest_to_the_prompt_come_first(client, image, monkeypatch):
    begin(client, image)
    reached: list[int] = []
    track_with(monkeypatch, reached.append)
    client.add_point_interaction([3, 20, 24], True)  # on the middle one of seven slices
    assert [abs(index - 3) for index in reached] == [1, 1, 2, 2, 3, 3]


def test_undo_of_a_prompt_brings_back_a_propagation_that_it_had_cut_off(serve, image, beside):
    server = serve(budget_s=0)
    beside.set_image(image, SPACING)
    beside.add_points([(3, 20, 24)])
    beside.propagate()
    with connect(server) as client:
        buffer = begin(client, image)
        client.add_point_interaction([3, 20, 24], True)
        client.add_point_interaction([5, 10, 10], True)
        assert client.undo()
        until = time.monotonic() + 20
        while (buffer != beside.mask()).any() and time.monotonic() < until:
            client._predict()
        np.testing.assert_array_equal(buffer, beside.mask())


def test_undo_of_a_start_brings_back_the_prompts_before_it(client, image, beside):
    buffer = begin(client, image)
    beside.set_image(image, SPACING)
    client.add_point_interaction([3, 20, 24], True)
    beside.add_points([(3, 20, 24)])
    beside.propagate()
    start = np.zeros(image.shape, np.uint8)
    start[1:3] = 1
    client.add_initial_seg_interaction(start)
    assert client.undo() and not client.undo()
    np.testing.assert_array_equal(buffer, beside.mask())
    # an empty one drops the prompts as well
    client.add_initial_seg_interaction(np.zeros_like(start))
    assert not buffer.any() and client.undo()
    np.testing.assert_array_equal(buffer, beside.mask())
    client.add_point_interaction([4, 15, 20], True)
    beside.add_points([(4, 15, 20)])
    beside.propagate()
    np.testing.assert_array_equal(buffer, beside.mask())


def test_a_new_buffer_is_filled_by_the_next_answer(client, image, beside):
    begin(client, image)
    beside.set_image(image, SPACING)
    client.add_point_interaction([3, 20, 24], True)
    buffer = np.zeros(image.shape, np.int32)
    client.set_target_buffer(buffer)
    client.add_point_interaction([3, 22, 24], True)
    beside.add_points([(3, 20, 24)])
    beside.propagate()
    beside.add_points([(3, 22, 24)])
    beside.propagate()
    np.testing.assert_array_equal(buffer, beside.mask())


@pytest.mark.parametrize(("clock", "seconds"), [("seen", 61), ("active", 601)])
def test_a_lease_ends_without_a_sign_of_life_or_a_user(serve, image, clock, seconds):
    server = serve(sessions=1)
    client = connect(server)
    begin(client, image)
    lease = server.state.leases._leases[client._lease_token]
    setattr(lease, clock, getattr(lease, clock) - seconds)
    with pytest.raises(SessionExpiredError, match="connect again"):
        client.undo()
    connect(server).close()  # there is room again
    assert server.state.worker.run(lambda: server.state.sessions.open_sessions) == 0
    client.close()


def test_heartbeats_are_answered_while_predictions_run(server, client, image):
    begin(client, image)
    begun, release = threading.Event(), threading.Event()

    def predict() -> None:
        begun.set()
        assert release.wait(120)

    threading.Thread(target=lambda: server.state.worker.run(predict)).start()
    assert begun.wait(60)
    waiting = threading.Thread(target=lambda: client.add_point_interaction([3, 20, 24], True))
    waiting.start()
    for _ in range(5):
        assert client.heartbeat() > 590
    assert waiting.is_alive() and not release.is_set()
    release.set()
    waiting.join(60)
    assert client.target_buffer.any()


def test_slices_are_encoded_once_for_all_objects_and_users_of_an_image(serve, model, image):
    server = serve()
    count = []
    hook = model.image_encoder.register_forward_pre_hook(lambda _, given: count.extend(given[0]))
    try:
        with connect(server) as client:
            begin(client, image)
            client.add_point_interaction([3, 20, 24], True)
            assert len(count) == 7
            client.reset_interactions()
            client.add_point_interaction([4, 20, 24], True)
            client.set_image(image[None], {"spacing": SPACING})
            client.set_target_buffer(client.target_buffer)
            client.add_point_interaction([5, 20, 24], True)
        with connect(server) as client:
            buffer = begin(client, image)
            assert not client.undo()
            client.add_point_interaction([3, 20, 24], True)
            assert buffer.any() and len(count) == 7
        with connect(server) as client:  # shown otherwise, since it lies otherwise
            begin(client, image, direction=TURNED.ravel())
            client.add_point_interaction([3, 20, 24], True)
            assert len(count) == 14
    finally:
        hook.remove()


def test_clients_of_a_server_that_has_gone_or_was_restarted(model, image):
    from nnunetv2_sam2_3dmed.server.settings import Settings

    settings = Settings(model=model, device="cpu", precision="float32")
    with running(settings) as server:
        client = connect(server)
        begin(client, image)
    with pytest.raises(httpx.TransportError):
        client.undo()
    with running(settings) as again:
        client._http.base_url = again.url
        with pytest.raises(SessionExpiredError):
            client.undo()
    client.close()
