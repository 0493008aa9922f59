"""The page's HTTP interface as its script uses it, and images for it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

# array axis z runs to the left, y to the head and x to the front, each turned by a few degrees
TURN = 0.2
OBLIQUE = np.array([[np.sin(TURN), 0, np.cos(TURN)], [-np.cos(TURN), 0, np.sin(TURN)], [0, 1, 0]])
SHAPE = (9, 40, 48)


class Client:
    """An open page, without its browser; `server` is the one that it was given, where a test has set it."""

    def __init__(self, url: str, key: str | None = None):
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        self.http.headers["X-Page-Session"] = self.ok("POST", "session")["token"]

    def ask(self, method: str, path: str, **options) -> httpx.Response:
        return self.http.request(method, f"/page/{path}", **options)

    def ok(self, method: str, path: str, **options):
        answer = self.ask(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer.content

    def refused(self, method: str, path: str, status: int = 400, **options) -> str:
        """The sentence of a refusal."""
        # after an error of its own, the server closes the connection
        answer = self.ask(method, path, headers={"Connection": "close"} if status >= 500 else None, **options)
        assert answer.status_code == status, answer.text
        sentence = answer.json()["detail"]
        assert isinstance(sentence, str) and sentence.endswith(".") and "\n" not in sentence
        return sentence

    def begin(self) -> str:
        """A fresh batch of files."""
        return self.ok("POST", "files")["batch"]

    def put(self, batch: str, name: str, content: bytes) -> str:
        return self.ok("PUT", "files", params={"batch": batch, "name": name}, content=content)["name"]

    def send(self, *files: Path) -> dict[str, str]:
        """Send files in a batch; what names them, the last one by its name."""
        batch = self.begin()
        names = [self.put(batch, f.name, f.read_bytes()) for f in files]
        return {"batch": batch, "name": names[-1]}

    def sent(self, *files: Path) -> dict[str, str]:
        """Send files, to be opened."""
        return {"batch": self.send(*files)["batch"]}

    def open(self, *files: Path, window="auto"):
        return self.ok("POST", "open", json={**self.sent(*files), "window": window})

    def prompt(self, kind, points, axis=0, index=4, label=1, number=1):
        points = [[float(row), float(column)] for row, column in points]
        prompt = {"kind": kind, "object": number, "axis": axis, "index": index, "label": label, "points": points}
        return self.ok("POST", "prompts", json=prompt)

    def frame(self, index: int) -> np.ndarray:
        """A frame of a video, (rows, columns, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.ok("GET", f"frames/{index}"))))

    def plane(self, what: str, view: dict, index: int) -> np.ndarray:
        content = self.ok("GET", f"{what}/{view['axis']}/{index}")
        return np.frombuffer(content, "<u2").reshape(view["rows"], view["columns"])

    def wait(self, of: Callable[[dict], bool] = lambda progress: not progress["running"]) -> dict:
        """Wait for the propagation."""
        for _ in range(6000):
            progress = self.ok("GET", "progress")
            if of(progress):
                return progress
            time.sleep(0.02)
        raise AssertionError(f"still {progress}")

    def saved(self, tmp_path: Path, ending=".nrrd") -> sitk.Image:
        path = tmp_path / f"saved{ending}"
        path.write_bytes(self.ok("GET", "segmentation", params={"ending": ending}))
        return sitk.ReadImage(str(path))


def write(path: Path, array: np.ndarray, direction: np.ndarray | None = None) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 1.1, 3.0))
    image.SetOrigin((12.0, -34.0, 56.0))
    image.SetDirection((np.eye(3) if direction is None else direction).reshape(-1).tolist())
    sitk.WriteImage(image, str(path))
    return path


def as_shown(client: Client, array: np.ndarray) -> np.ndarray:
    """All slices along axis 0 of an array as the page shows them."""
    view = client.ok("GET", "session")["image"]["views"][0]
    return array.transpose(view["order"])[tuple(slice(None, None, -1 if flip else 1) for flip in view["flips"])]


def network_fails(*_, **__):
    """Stand-in for a prediction."""
    raise torch.OutOfMemoryError("CUDA out of memory")
