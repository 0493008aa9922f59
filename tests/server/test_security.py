from __future__ import annotations

import asyncio
import http.client
import json

import httpx
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server.security import LARGEST_JSON, Guard
from nnunetv2_sam2_3dmed.server.settings import Settings, is_loopback

LARGE = str(LARGEST_JSON + 1)


def answer(url: str, method="POST", path="/claim", **headers) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url + path, headers=names, trust_env=False, timeout=60)


@pytest.fixture
def server(serve):
    return serve()


def test_a_browser_on_the_page_itself_is_served(server):
    host = server.url.removeprefix("http://")
    for headers in (
        {"Origin": server.url, "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Host": f"localhost:{host.split(':')[1]}"},
        {"Host": "localhost:8000"},  # through a tunnel
        {"Host": "[::1]:1527"},
    ):
        assert answer(server.url, "GET", "/capabilities", **headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:1527", "127.0.0.1.evil.example", "10.0.0.7", "[::", ""])
def test_other_names_for_this_machine_are_refused(server, host):
    # a site whose name was rebound to 127.0.0.1
    found = answer(server.url, Host=host)
    assert found.status_code == 403 and repr(host) in found.json()["detail"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://"])
def test_other_web_sites_are_refused(server, origin):
    found = answer(server.url, Origin=origin)
    assert found.status_code == 403 and origin in found.json()["detail"]
    assert len(server.state.leases) == 0
    # nothing allows a browser to ask on behalf of the site
    found = answer(server.url, "OPTIONS", Origin=origin, Access_Control_Request_Method="POST")
    assert found.status_code == 403 and "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_and_links_on_other_web_sites_are_refused(server, site):
    assert answer(server.url, "GET", "/start_session", Sec_Fetch_Site=site).status_code == 403
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate"}
    assert answer(server.url, "GET", "/start_session", **link).status_code == 403
    assert answer(server.url, "GET", "/", **link).status_code != 403
    assert len(server.state.leases) == 0


def test_keys(serve):
    server = serve(key="sesame")
    assert answer(server.url, "GET", "/healthz").json()["ok"]
    for path in ("/capabilities", "/start_session", "/v2/models", "/nothing"):
        for headers, said in (
            ({}, "Missing bearer token"),
            ({"Authorization": "Basic sesame"}, "Missing bearer token"),
            ({"Authorization": "Bearer sesam"}, "Invalid bearer token"),
            ({"Authorization": "Bearer sesame2"}, "Invalid bearer token"),
        ):
            found = answer(server.url, "GET", path, **headers)
            assert found.status_code == 401 and said in found.json()["detail"]
    assert answer(server.url, "GET", "/capabilities", Authorization="Bearer sesame").status_code == 200
    # bytes that are no ASCII, which compare_digest would not take as text
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.request("GET", "/capabilities", headers={"Authorization": "Bearer s\xe9same".encode("latin-1")})
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/set_image", {"Content-Length": "9" * 15}, 413),
        ("/add_point_interaction", {"Content-Length": LARGE, "Content-Type": "application/json"}, 413),
        ("/add_point_interaction", {"Content-Length": LARGE, "Content-Type": "application/JSON"}, 413),
        ("/claim", {"Content-Length": LARGE}, 413),
        ("/set_image", {"Transfer-Encoding": "chunked"}, 411),
        ("/set_image", {"Content-Length": LARGE}, 410),
        ("/set_image", {"Content-Length": LARGE, "X-Lease-Token": "0" * 32}, 410),
        ("/v2/upload_raw/unknown", {"Content-Length": LARGE}, 410),
        ("/page/files?name=a.nrrd", {"Content-Length": LARGE, "X-Page-Session": "0" * 32}, 410),
    ],
)
def test_bodies_are_refused_before_they_are_read(server, path, headers, status):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    found = connection.getresponse()
    assert found.status == status and json.loads(found.read())["detail"].endswith(".")
    connection.close()


@pytest.mark.parametrize(("call", "named"), [("/upload_raw/{}", False), ("/set_image", True)])
def test_large_bodies_of_a_lease_are_read(server, call, named):
    token = server.state.leases.claim().token
    url, body = server.url + call.format(token), b"\0" * (LARGEST_JSON + 1)
    found = httpx.post(
        url, content=body, headers={"X-Lease-Token": token} if named else {}, trust_env=False, timeout=60
    )
    assert found.status_code == 400  # for what is in it


def test_large_bodies_wait_for_each_other_and_for_nothing_else():
    inside, most = set(), []

    async def app(scope, receive, send):
        inside.add(scope["number"])
        await asyncio.sleep(0.02)
        most.append(set(inside))
        inside.remove(scope["number"])

    guard = Guard(app, None, False, (), ("/set_image", "/page/"), ("/page/",), 2**30, lambda _: None, at_once=2)

    def scope(number: int, path: str, length: int) -> dict:
        headers = [(b"content-length", str(length).encode())]
        return {"type": "http", "method": "POST", "path": path, "headers": headers, "number": number}

    async def send_all(path: str, length: int) -> int:
        most.clear()
        await asyncio.gather(*(guard(scope(number, path, length), None, None) for number in range(6)))
        return max(map(len, most))

    async def send_each() -> list[int]:
        return [
            await send_all(*call)
            for call in (("/set_image", 2**25), ("/set_image", 2**20), ("/page/files", 2**25), ("/undo", 2))
        ]

    assert asyncio.run(send_each()) == [2, 6, 6, 6]


def test_a_client_that_falls_silent_keeps_no_place_for_large_bodies():
    heard = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        heard.append((scope["client"], message["type"]))

    def request(client: str, *parts: dict):
        """Return the scope of a client, and its parts; then nothing comes any more."""
        left = list(parts)

        async def receive():
            return left.pop(0) if left else await asyncio.Future()

        headers = [(b"content-length", str(2**25).encode())]
        return {"type": "http", "method": "POST", "path": "/set_image", "headers": headers, "client": client}, receive

    part, last = ({"type": "http.request", "body": b"", "more_body": more} for more in (True, False))

    async def send_both():
        guard = Guard(app, None, False, (), ("/set_image",), ("/page/",), 2**30, lambda _: None, 1, longest_silence=0.1)
        await asyncio.gather(guard(*request("silent", part), None), guard(*request("other", part, last), None))

    asyncio.run(asyncio.wait_for(send_both(), 60))
    assert heard == [("silent", "http.disconnect"), ("other", "http.request")]


def test_a_client_that_waits_for_its_answer_is_not_gone():
    async def app(scope, receive, send):
        assert not (await receive())["more_body"]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.3)

    async def receive():
        return left.pop() if left else await asyncio.Future()

    async def send_one():
        guard = Guard(app, None, False, (), ("/set_image",), ("/page/",), 2**30, lambda _: None, 1, longest_silence=0.1)
        headers = [(b"content-length", str(2**25).encode())]
        await guard({"type": "http", "method": "POST", "path": "/set_image", "headers": headers}, receive, None)

    left = [{"type": "http.request", "body": b"", "more_body": False}]
    asyncio.run(send_one())


def test_a_server_for_others_answers_to_any_name(serve):
    server = serve(host="192.0.2.1", key="sesame")  # the test listens at 127.0.0.1 whatever the settings say
    known = {"Authorization": "Bearer sesame", "Host": "workstation.example:1527"}
    assert answer(server.url, "GET", "/capabilities", **known).status_code == 200
    assert answer(server.url, "GET", "/capabilities", **known, Origin="http://evil.example").status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_addresses_of_this_machine_alone(host):
    assert is_loopback(host)
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "workstation", "localhost.evil.example", ""])
def test_other_addresses_need_a_key(host):
    assert not is_loopback(host)
    for key in (None, ""):
        with pytest.raises(UserError, match="give a key"):
            Settings(host=host, key=key)
    assert Settings(host=host, key="sesame").key == "sesame"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "schlüssel"}, "ASCII"),
        ({"key": "a\nb"}, "ASCII"),
        ({"port": 70000}, "port is 70000"),
        ({"itksnap_port": -1}, "ITK-SNAP's port is -1"),
        ({"sessions": 0}, "sessions is 0"),
        ({"memory_bytes": 0}, "memory is 0"),
        ({"largest_image_bytes": -5}, "largest image is -5"),
        ({"budget_s": -1.0}, "budget is -1"),
        ({"budget_s": float("nan")}, "budget is nan"),
    ],
)
def test_settings_out_of_range(options, said):
    with pytest.raises(UserError, match=said):
        Settings(**options)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        Settings(folder=tmp_path / "images")
