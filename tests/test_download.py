"""Against a small server on this machine that can send ranges, refuse them, or break off."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nnunetv2_sam2_3dmed.download import download
from nnunetv2_sam2_3dmed.errors import UserError

CONTENT = bytes(range(256)) * 1000


class Server(ThreadingHTTPServer):
    """Server that sends CONTENT; attributes set how well."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.breaks_after: int | None = None
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if not self.path.endswith("weights.pt"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_file_arrives(server, tmp_path):
    download(server.address, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT and server.asked == [None]


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.breaks_after = 100_000
    with pytest.raises(UserError, match="again to go on"):
        download(server.address, tmp_path / "partial")
    arrived = (tmp_path / "partial").stat().st_size
    assert 0 < arrived <= 100_000
    server.breaks_after = None
    download(server.address, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={arrived}-"]


def test_a_server_without_ranges_sends_all_of_it(server, tmp_path):
    server.ranges = False
    (tmp_path / "partial").write_bytes(b"something else")
    download(server.address, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_a_complete_file_is_kept(server, tmp_path):
    (tmp_path / "partial").write_bytes(CONTENT)
    download(server.address, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"], "asked for what is missing, which is nothing"


def test_a_file_longer_than_the_server_s_is_started_again(server, tmp_path):
    (tmp_path / "partial").write_bytes(CONTENT + b"more")
    with pytest.raises(UserError, match="has changed"):
        download(server.address, tmp_path / "partial")
    download(server.address, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_what_is_not_there_is_a_sentence(server, tmp_path):
    with pytest.raises(UserError, match="bring the file.*404"):
        download(server.address.replace("weights.pt", "nothing"), tmp_path / "partial")
    with pytest.raises(UserError, match="bring the file"):
        download("http://127.0.0.1:1/weights.pt", tmp_path / "partial")
