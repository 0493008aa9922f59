"""Places of pages, their files, and what is open without a place or a key."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.interactive.reference import phantom
from tests.server.page_client import OBLIQUE, SHAPE, Client, write


@pytest.fixture
def image(tmp_path) -> Path:
    return write(tmp_path / "patient 1.nrrd", phantom(SHAPE), OBLIQUE)


@pytest.fixture
def client(serve) -> Client:
    return Client(serve().url)


def test_images_of_the_folder(serve, image, tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    image.rename(tmp_path / "folder" / "sub" / "ct.nrrd")
    write(tmp_path / "secret.nrrd", phantom(SHAPE))
    client = Client(serve(folder=tmp_path / "folder").url)
    (listed,) = client.ok("GET", "folder")["images"]
    assert client.ok("POST", "open", json={"path": listed["path"]})["image"]["name"] == "ct.nrrd"
    assert "no image in the folder" in client.refused("POST", "open", json={"path": "../secret.nrrd"})
    assert client.ok("GET", "session")["image"]["name"] == "ct.nrrd"


def test_uploads_are_bounded_and_deleted(serve, image):
    server = serve(largest_image_bytes=100_000)
    client = Client(server.url)
    names = client.send(image)
    sentence = client.refused("PUT", "files", params={"name": "big.nii"}, content=bytes(90_000))
    assert "--largest-image" in sentence
    assert names == ["patient_1.nrrd"]
    client.ok("POST", "open", json={})
    (lease,) = server.state.leases._leases.values()
    folder = lease.holding.folder.parent
    assert folder.is_dir()
    client.ok("POST", "release")
    assert not folder.exists()


def test_images_are_bounded(serve, tmp_path):
    # as a file a hundredth of what it is in memory
    small = write(tmp_path / "small.nii.gz", np.zeros((40, 100, 100), np.int16))
    assert small.stat().st_size < 50_000
    client = Client(serve(largest_image_bytes=500_000).url)
    client.send(small)
    assert "--largest-image" in client.refused("POST", "open", json={})


def test_a_refused_image_leaves_the_one_that_is_open(client, image, tmp_path):
    before = client.open(image)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    client.send(tmp_path / "broken.nii.gz")
    assert "broken.nii.gz" in client.refused("POST", "open", json={})
    assert client.ok("GET", "session") == before
    assert "no file was received" in client.refused("POST", "open", json={})  # the broken one is gone


def test_places(serve, image):
    server = serve(sessions=2)
    first, second = Client(server.url), Client(server.url)
    answer = httpx.post(f"{server.url}/page/session", trust_env=False)
    assert answer.status_code == 503 and answer.headers["retry-after"] and "in use" in answer.json()["detail"]
    first.open(image), second.open(image)
    first.prompt("box", [(3, 3), (25, 30)])
    assert second.ok("GET", "session")["state"]["objects"][0]["prompts"] == []
    assert first.ok("POST", "release") == {}
    assert "open the image again" in first.refused("GET", "session", 410)
    assert "open the image again" in first.refused("POST", "undo", 410)
    third = Client(server.url)
    # the features of the image are kept, its objects are not
    assert third.open(image)["state"]["objects"][0]["prompts"] == []


def test_a_page_that_is_not_heard_of_loses_its_place(serve, image, monkeypatch):
    server = serve(sessions=1)
    client = Client(server.url)
    client.open(image)
    now = server.state.leases._clock()
    monkeypatch.setattr(server.state.leases, "_clock", lambda: now + 290)
    client.ok("POST", "heartbeat")
    monkeypatch.setattr(server.state.leases, "_clock", lambda: now + 580)
    client.ok("POST", "heartbeat")
    monkeypatch.setattr(server.state.leases, "_clock", lambda: now + 900)
    server.state.leases.sweep()
    client.refused("POST", "heartbeat", 410)
    Client(server.url)


def test_nothing_but_the_page_itself_is_open_without_the_key(serve):
    server = serve(key="secret")
    http = httpx.Client(base_url=server.url, trust_env=False)
    page = http.get("/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    assert http.get("/static/main.js").headers["content-type"].startswith("text/javascript")
    for call in ("POST session", "GET session", "GET folder", "PUT files", "POST open", "GET slices/0/0", "POST undo"):
        method, path = call.split()
        assert http.request(method, f"/page/{path}").status_code == 401
    assert Client(server.url, "secret").ok("GET", "folder") == {"images": []}


@pytest.mark.parametrize("name", ["..%2fpage_routes.py", "%2e%2e/settings.py", "missing.js", ".", "..%5csettings.py"])
def test_no_other_file_is_static(serve, name):
    assert httpx.get(f"{serve().url}/static/{name}", trust_env=False).status_code == 404


def test_the_page_asks_nothing_of_other_hosts():
    from nnunetv2_sam2_3dmed.server.page_routes import STATIC

    files = [file for file in STATIC.iterdir() if file.suffix in (".html", ".js", ".css", ".svg")]
    assert len(files) > 5
    for file in files:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and 'src="//' not in text, file.name
