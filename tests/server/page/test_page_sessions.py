"""Objects of a page whose masks overlap, whose network fails, or whose image was closed."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from tests.interactive.reference import phantom
from tests.server.page_client import SHAPE, Client, as_shown, network_fails, write


def test_a_lock_decides_on_overlaps_that_are_shown(serve, image, tmp_path):
    client = Client(serve().url)
    view = client.open(image)["image"]["views"][0]
    client.prompt("lasso", [(2, 2), (2, 20), (20, 20), (20, 2)])
    client.ok("POST", "objects", json={})
    client.prompt("lasso", [(10, 10), (10, 30), (30, 30), (30, 10)], number=2)
    overlaps = []
    for change in ({"protected": False}, {"protected": True}, {"protected": False}):
        state = client.ok("PATCH", "objects/2", json=change)["state"]
        found = np.array([client.plane("labels", view, index) for index in range(SHAPE[0])])
        expected = as_shown(client, sitk.GetArrayFromImage(client.saved(tmp_path)))
        np.testing.assert_array_equal(found, expected)
        overlaps.append((int((found == 1).sum()), int((found == 2).sum()), state["version"]))
    # eleven pixels a side belong to the one or the other, and what is shown has another version
    one, locked, other = overlaps
    assert (one[0] - locked[0], locked[1] - one[1]) == (11 * 11, 11 * 11) and locked[2] > one[2]
    assert other[:2] == one[:2] and other[2] > locked[2]


def test_a_prompt_that_the_network_fails_on_is_taken_back(serve, image, monkeypatch):
    client = Client(serve().url)
    view = client.open(image)["image"]["views"][0]
    client.prompt("box", [(3, 3), (25, 30)])
    before, shown = client.ok("GET", "session"), client.plane("labels", view, 4)
    point = {"kind": "point", "object": 1, "axis": 0, "index": 4, "points": [[5, 5]]}
    with monkeypatch.context() as failing:
        failing.setattr(Engine, "answer", network_fails)
        for kind in (point, point | {"index": 6}, point | {"kind": "lasso", "points": [[2, 2], [2, 9], [9, 9]]}):
            assert "out of memory" in client.refused("POST", "prompts", 500, json=kind)
    assert client.ok("GET", "session") == before
    np.testing.assert_array_equal(client.plane("labels", view, 4), shown)
    assert client.prompt("point", [(20, 20)])["state"]["can_undo"]


def test_no_job_uses_the_session_of_an_image_that_was_closed(serve, image, tmp_path):
    server = serve()
    client = Client(server.url)
    client.open(image)
    (lease,) = server.state.leases._leases.values()
    page = lease.holding.page
    client.open(write(tmp_path / "other.nrrd", phantom((5, 20, 20))))
    with pytest.raises(UserError, match="was closed"):
        page.run(lambda: page.add_prompt("point", 1, 0, 4, 1, np.array([[5.0, 5.0]])))
    assert page.session.object_ids == []
