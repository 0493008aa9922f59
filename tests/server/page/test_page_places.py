"""Places of pages, their files, and what is open without a place or a key."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from nnunetv2_sam2_3dmed.server import app
from tests.images.dicom_files import write_series
from tests.interactive.reference import phantom
from tests.server.page_client import SHAPE, Client, write


def test_images_of_the_folder(serve, image, tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    image.rename(tmp_path / "folder" / "sub" / "ct.nrrd")
    write(tmp_path / "secret.nrrd", phantom(SHAPE))
    client = Client(serve(folder=tmp_path / "folder").url)
    (listed,) = client.ok("GET", "folder")["images"]
    assert client.ok("POST", "open", json={"path": listed["path"]})["image"]["name"] == "ct.nrrd"
    assert "no image in the folder" in client.refused("POST", "open", json={"path": "../secret.nrrd"})
    assert client.ok("GET", "session")["image"]["name"] == "ct.nrrd"


def folder_of(server) -> Path:
    """Folder of the only place's files."""
    (lease,) = server.state.leases._leases.values()
    return Path(lease.holding._files.name)


def test_uploads_are_bounded_and_deleted(serve, image):
    server = serve(largest_image_bytes=100_000)
    client = Client(server.url)
    sent = client.send(image)
    options = {"params": {"batch": sent["batch"], "name": "big.nii"}, "content": bytes(90_000)}
    assert "--largest-image" in client.refused("PUT", "files", **options)
    assert sent["name"] == "patient 1.nrrd"
    client.ok("POST", "open", json={"batch": sent["batch"]})
    folder = folder_of(server)
    assert folder.is_dir()
    client.ok("POST", "release")
    assert not folder.exists()


def test_each_open_has_files_of_its_own(serve, image, tmp_path):
    server = serve(largest_image_bytes=100_000)
    client = Client(server.url)
    (tmp_path / "broken.nii").write_bytes(b"no image" * 10_000)
    for _ in range(3):  # each counts towards the bound alone
        broken = client.sent(tmp_path / "broken.nii")
        client.send(tmp_path / "broken.nii")  # of another open, which was given up
        options = {"params": {**broken, "name": "late.nii"}, "content": b"1"}
        assert "no longer on the server" in client.refused("PUT", "files", **options)
        assert "broken.nii" in client.refused("POST", "open", json=client.sent(tmp_path / "broken.nii"))
    assert client.open(image)["image"]["shape"] == list(SHAPE)
    (kept,) = folder_of(server).iterdir()
    assert [file.name for file in kept.iterdir()] == ["patient 1.nrrd"]
    batch = client.sent(image)
    client.ok("DELETE", "files", params=batch)
    assert list(folder_of(server).iterdir()) == [kept]
    assert "no longer on the server" in client.refused("POST", "open", json=batch)


def test_a_file_that_breaks_off_leaves_nothing(serve, image):
    server = serve()
    client = Client(server.url)
    batch = client.begin()
    host = str(client.http.base_url.netloc, "ascii")
    request = (
        f"PUT /page/files?batch={batch}&name=ct.nii HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n"
        f"X-Page-Session: {client.http.headers['X-Page-Session']}\r\n\r\n"
    )
    (folder,) = folder_of(server).iterdir()
    (place,) = (lease.holding for lease in server.state.leases._leases.values())
    with socket.create_connection(host.split(":")) as connection:
        connection.sendall(request.encode() + bytes(5000))
        wait_until(lambda: list(folder.iterdir()))
        assert place.batch(batch).received == 1_000_000
    wait_until(lambda: not list(folder.iterdir()))
    assert place.batch(batch).received == 0
    name = client.put(batch, image.name, image.read_bytes())
    assert name and client.ok("POST", "open", json={"batch": batch})["image"]


def wait_until(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError


def test_a_long_upload_keeps_its_place(serve, monkeypatch):
    server = serve()
    client = Client(server.url)
    leases = server.state.leases
    (lease,) = leases._leases.values()
    now = leases._clock()

    def slowly():
        for minute in range(10):
            monkeypatch.setattr(leases, "_clock", lambda passed=60 * minute: now + passed)
            leases.sweep()
            yield bytes(1000)
            wait_until(lambda passed=60 * minute: lease.seen >= now + passed)

    batch = client.begin()
    options = {
        "params": {"batch": batch, "name": "ct.nii"},
        "content": slowly(),
        "headers": {"Content-Length": "10000"},
    }
    assert client.ok("PUT", "files", **options) == {"name": "ct.nii"}


def test_the_sweep_goes_on_after_a_failure():
    class Failing:
        alive_s, rounds = 0.01, 0

        def sweep(self):
            self.rounds += 1
            if self.rounds == 1:
                raise OSError("the folder is in use")
            stopped.set()

    stopped, leases = threading.Event(), Failing()
    app._sweep(SimpleNamespace(leases=leases), stopped)
    assert leases.rounds == 2


def test_images_are_bounded(serve, tmp_path):
    # as a file a hundredth of what it is in memory
    small = write(tmp_path / "small.nii.gz", np.zeros((40, 100, 100), np.int16))
    assert small.stat().st_size < 50_000
    client = Client(serve(largest_image_bytes=500_000).url)
    assert "--largest-image" in client.refused("POST", "open", json=client.sent(small))


def test_an_uploaded_header_opens_no_file_of_the_server(serve, tmp_path):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(64)))
    (tmp_path / "served").mkdir()
    for where in (tmp_path, tmp_path / "served"):
        (where / "ct.mhd").write_text(
            f"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {secret}\n"
        )
    client = Client(serve(folder=tmp_path / "served").url)
    assert "must lie in one file beside it" in client.refused("POST", "open", json=client.sent(tmp_path / "ct.mhd"))
    assert "must lie in one file beside it" in client.refused("POST", "open", json={"path": "ct.mhd"})


def test_a_refused_image_leaves_the_one_that_is_open(serve, image, tmp_path):
    client = Client(serve(largest_image_bytes=200_000).url)
    client.open(image)
    client.prompt("box", [(3, 3), (25, 30)])
    before = client.ok("GET", "session")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    sentence = client.refused("POST", "open", json=client.sent(tmp_path / "broken.nii.gz"))
    assert sentence.startswith("broken.nii.gz ")
    assert client.ok("GET", "session") == before
    large = write(tmp_path / "large.nii.gz", np.zeros((40, 100, 100), np.int16))
    assert "--largest-image" in client.refused("POST", "open", json=client.sent(large))
    # an image that can be read, but not be shown in this window
    sent = client.sent(write(tmp_path / "other.nrrd", phantom((4, 20, 20))))
    assert "window" in client.refused("POST", "open", json={**sent, "window": "dark"})
    assert client.ok("GET", "session") == before
    assert "no file was received" in client.refused("POST", "open", json={"batch": client.begin()})
    assert client.saved(tmp_path).GetSize() == SHAPE[::-1]


def test_an_image_opened_again_has_no_objects(client, image):
    client.open(image)
    client.prompt("box", [(3, 3), (25, 30)])
    opened = client.open(image)
    assert opened["state"]["objects"][0]["prompts"] == [] and not opened["state"]["can_undo"]
    assert not client.plane("labels", opened["image"]["views"][0], 4).any()
    client.prompt("box", [(3, 3), (25, 30)])


def test_one_of_several_series_is_chosen(serve, tmp_path):
    for number, depth in ((1, 3), (2, 5)):

        def describe(data, z, number=number):
            data.SeriesNumber, data.SeriesDescription = number, f"Thorax {number}"

        write_series(tmp_path / "disc", phantom((depth, 24, 30)).astype(np.int16), change=describe)
        for file in (tmp_path / "disc").iterdir():
            if not file.name.startswith("series"):
                file.rename(file.with_name(f"series{number}_{file.name}"))
    server = serve(folder=tmp_path)
    client = Client(server.url)
    before = client.open(write(tmp_path / "ct.nrrd", phantom(SHAPE)))
    sources = [client.sent(*sorted((tmp_path / "disc").iterdir())), {"path": "disc"}]
    for source in sources:
        answer = client.ok("POST", "open", json=source)
        assert list(answer) == ["series"] and client.ok("GET", "session") == before
        found = {one["description"]: one for one in answer["series"]}
        assert {name: (one["number"], one["modality"], one["images"]) for name, one in found.items()} == {
            "Thorax 1": ("1", "CT", 3),
            "Thorax 2": ("2", "CT", 5),
        }
        assert {(one["rows"], one["columns"]) for one in answer["series"]} == {(24, 30)}
        assert "no image in the folder" in client.refused("POST", "open", json={**source, "series": "../ct.nrrd"})
        # another one can be chosen
        chosen = client.ok("POST", "open", json={**source, "series": found["Thorax 2"]["id"], "name": "Thorax"})
        assert chosen["image"]["shape"] == [5, 24, 30] and chosen["image"]["name"] == "Thorax"
        before = client.ok("GET", "session")


def test_places(serve, image):
    server = serve(sessions=2)
    first, second = Client(server.url), Client(server.url)
    answer = httpx.post(f"{server.url}/page/session", trust_env=False, timeout=60)
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
    http = httpx.Client(base_url=server.url, trust_env=False, timeout=60)
    page = http.get("/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    assert http.get("/static/main.js").headers["content-type"].startswith("text/javascript")
    for call in ("POST session", "GET session", "GET folder", "PUT files", "POST open", "GET slices/0/0", "POST undo"):
        method, path = call.split()
        assert http.request(method, f"/page/{path}").status_code == 401
    assert Client(server.url, "secret").ok("GET", "folder") == {"images": [], "complete": True}


@pytest.mark.parametrize("name", ["..%2fpage_routes.py", "%2e%2e/settings.py", "missing.js", ".", "..%5csettings.py"])
def test_no_other_file_is_static(serve, name):
    assert httpx.get(f"{serve().url}/static/{name}", trust_env=False, timeout=60).status_code == 404


def test_the_page_asks_nothing_of_other_hosts():
    from nnunetv2_sam2_3dmed.server.page_routes import STATIC

    files = [file for file in STATIC.iterdir() if file.suffix in (".html", ".js", ".css", ".svg")]
    assert len(files) > 5
    for file in files:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and 'src="//' not in text, file.name
