"""Seeded mutations of valid requests: refused with a sentence or answered, never a failure of the server."""

from __future__ import annotations

import copy
import gzip
import json
import random

import httpx
import numpy as np
from nnInteractive.inference.remote.serialization import pack_array

from tests.interactive.reference import phantom
from tests.server.conftest import begin, connect
from tests.server.many_clients import resident_bytes
from tests.server.test_itksnap import parts

MUTATIONS = 1000
VALUES = (None, [], {}, "", "x" * 500, -1, 2**70, 1e308, True, [[1, 2]] * 50, float("nan"), "\ud800", "é", 0.5)


def requests(image: np.ndarray, session: str) -> list[dict]:
    """Valid requests of both protocols."""
    shape = list(image.shape)
    drawn = np.zeros((1, *shape[1:]), np.uint8)
    drawn[0, 4:6, 3:9] = 1
    drawing = {"include_interaction": True, "interaction_bbox": [[1, 2], [0, shape[1]], [0, shape[2]]]}
    json_calls = {
        "/set_target_buffer": {"shape": shape, "dtype": "uint8"},
        "/add_point_interaction": {"coordinates": [1, 6, 7], "include_interaction": True, "run_prediction": True},
        "/add_bbox_interaction": {"bbox_coords": [[1, 2], [2, 9], [3, 9]], "include_interaction": True},
        "/set_do_autozoom": {"do_autozoom": True},
        "/predict": {"force_full_refine": False},
        "/undo": {},
        "/reset_interactions": {},
        "/heartbeat": {},
    }
    binary_calls = {
        "/add_scribble_interaction": (drawn, drawing),
        "/add_lasso_interaction": (drawn, drawing),
        "/add_initial_seg_interaction": ((image > 500).astype(np.uint8), {"run_prediction": True}),
    }
    meta = {"X-Meta": json.dumps({"image_properties": {"spacing": [3, 1, 1]}})}
    return [
        {"url": "/set_image", "content": pack_array(image[None]), "headers": meta},
        *({"url": url, "json": body} for url, body in json_calls.items()),
        *(
            {"url": url, "content": pack_array(array), "headers": {"X-Meta": json.dumps(meta)}}
            for url, (array, meta) in binary_calls.items()
        ),
        {"url": f"/v2/upload_raw/{session}", **parts(image)},
        {
            "url": f"/process_lasso_interaction/{session}?foreground=true",
            **parts(np.concatenate([drawn * 0, drawn, drawn * 0])),
        },
        {"url": f"/v2/process_point_interaction/{session}?point=7&point=6&point=1&foreground=true", "method": "GET"},
        {"url": f"/reset_interactions/{session}", "method": "GET"},
    ]


def changed_json(value, chance: random.Random):
    """The value with one part of it replaced, dropped or repeated."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.8:
        value = copy.copy(value)
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.2:
            del value[key]
        else:
            value[key] = changed_json(value[key], chance)
        return value
    return chance.choice(VALUES)


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 30))):
        if changed:
            changed[chance.randrange(min(len(changed), chance.choice((40, 200, len(changed)))))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed) + 1) if chance.random() < 0.3 else None])


def mutated(request: dict, chance: random.Random) -> dict:
    """The request with something wrong, but sent as HTTP asks for."""
    request = copy.deepcopy(request)
    if "json" in request:
        text = json.dumps(changed_json(request.pop("json"), chance))
        content = changed_bytes(text.encode(), chance) if chance.random() < 0.3 else text.encode()
        if chance.random() < 0.02:
            content = b"[" * 100_000
        request |= {"content": content, "headers": {"Content-Type": "application/json"}}
    elif "content" in request:
        if chance.random() < 0.6:
            request["content"] = changed_bytes(request["content"], chance)
        else:
            meta = changed_json(json.loads(request["headers"]["X-Meta"]), chance)
            request["headers"]["X-Meta"] = json.dumps(meta)[: chance.choice((None, None, 10))]
    elif "files" in request:
        name, content, kind = request["files"]["file"]
        if chance.random() < 0.3:
            content = gzip.compress(changed_bytes(gzip.decompress(content), chance))
        elif chance.random() < 0.5:
            content = changed_bytes(content, chance)
        else:
            meta = changed_json(json.loads(request["data"]["metadata"]), chance)
            request["data"] = {"metadata": json.dumps(meta)}
        request["files"]["file"] = (name, content, kind)
    else:
        path, _, query = request["url"].partition("?")
        request["url"] = (
            path + "?" + query.replace(chance.choice("0123456789=&pt"), chance.choice(("", "x", "-9", "&")))
        )
    if chance.random() < 0.05:
        request["method"] = chance.choice(("GET", "PUT", "DELETE", "HEAD", "PATCH"))
    if chance.random() < 0.05:
        request["url"] = request["url"].replace("_", chance.choice(("/", "%00", "..", "%2e%2e%2f")), 1)
    return request


def test_no_mutation_of_a_request_makes_the_server_fail(serve):
    server = serve(budget_s=0.1, largest_image_bytes=2**22)
    image = phantom((3, 12, 14))
    chance = random.Random(17)
    statuses = []
    with connect(server) as client, httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        begin(client, image)
        session = http.get("/start_session").json()["session_id"]
        http.post(f"/upload_raw/{session}", **parts(image))
        http.headers["X-Lease-Token"] = client._lease_token
        valid = requests(image, session)
        for number in range(MUTATIONS):
            if number == MUTATIONS // 2:
                used = resident_bytes()
            request = mutated(chance.choice(valid), chance)
            answer = http.request(**{"method": "POST", **request})
            statuses.append(answer.status_code)
            assert answer.status_code < 500, (request, answer.text)
            if answer.status_code >= 400 and request.get("method") != "HEAD":
                assert answer.json()["detail"].strip().endswith("."), (request, answer.text)
            if number % 100 == 0:
                for call in valid:
                    assert http.request(**{"method": "POST", **call}).status_code == 200
        assert resident_bytes() - used < 40 * 2**20
        # the session is whole
        http.post("/reset_interactions", json={})
        buffer = begin(client, image)
        client.add_point_interaction([1, 6, 7], True)
        assert buffer.any()
    assert sum(status >= 400 for status in statuses) > 0.5 * MUTATIONS > sum(status == 200 for status in statuses) > 50
