"""Chromium for tests of the page, and where things lie in it."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

# in the order in which they are tried; SAM2_3dMed_chromium names another
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STRIP, MARGIN = 16, 10  # pixels of the page beside and around a slice
PATIENCE_MS = 120_000


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("SAM2_3dMed_chromium")
    found = named or next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Viewer:
    """The page in a browser, and the user before it.

    Args:
        browser: see :func:`chromium`.
        url: of the server.
        scheme: "light" or "dark".
        clock: the page's time can be paused from its load on (``page.clock``). A clock that is installed later sets
            back the time that a loaded page has counted from.

    Attributes:
        began: ``time.monotonic()`` before the page was loaded.
    """

    def __init__(self, browser, url: str, scheme: str = "light", clock: bool = False):
        self.context = browser.new_context(
            viewport={"width": 1280, "height": 720}, color_scheme=scheme, accept_downloads=True
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", self._check_host)
        self.page.on("response", self._check_status)
        # requests that have no answer yet, other than those that the page sends again and again
        self.pending: set = set()
        self.page.on("request", self._note_request)
        self.page.on("requestfinished", lambda request: self.pending.discard(request))
        self.page.on("requestfailed", lambda request: self.pending.discard(request))
        self.url = url
        if clock:
            self.page.clock.install(time=0)
        self.began = time.monotonic()
        self.page.goto(url)

    def _note(self, message) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _check_host(self, request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.errors.append(f"{request.url} is of another host")

    def _note_request(self, request) -> None:
        if request.resource_type == "fetch" and not request.url.endswith(("/heartbeat", "/progress")):
            self.pending.add(request)

    def _check_status(self, response) -> None:
        if response.status == 404 or response.status >= 500:
            self.errors.append(f"{response.status} {response.url}")

    def hold(self, url: str, handler: Callable) -> None:
        """Give requests to ``handler`` from now on; loads the page again.

        While the page has requests on their way, Chromium may send further ones past a handler that has just been set.
        """
        self.page.route(url, handler)
        self.page.reload()

    def open(self, path) -> None:
        """Choose a file from the machine of the browser."""
        self.page.locator("#file-input").set_input_files(path)
        self.page.wait_for_selector("#opener", state="hidden")
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being segmented, and what is there is drawn."""
        self.frame()
        self.page.wait_for_selector("#status-busy", state="hidden")
        self.page.wait_for_load_state("networkidle")  # after a load of the page only
        self.wait_until(lambda: not self.pending)
        self.frame()
        self.page.wait_for_selector("canvas[aria-busy=true]", state="hidden")

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something has happened that is not seen in the page."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not condition():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(10)

    def frame(self) -> None:
        """Wait until the page has drawn what has changed."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.frame()

    def at(self, plane: str, row: float, column: float, rows: int, columns: int, pixel=(1.0, 1.0)) -> tuple:
        """Place on the screen of the centre of a pixel: the slice fits the canvas but for its margins and the strip."""
        box = self.page.locator(f"canvas[data-plane={plane}]").bounding_box()
        scale = min(
            (box["width"] - STRIP - 2 * MARGIN) / (columns * pixel[1]), (box["height"] - 2 * MARGIN) / (rows * pixel[0])
        )
        left = box["x"] + (box["width"] - STRIP - columns * pixel[1] * scale) / 2
        top = box["y"] + (box["height"] - rows * pixel[0] * scale) / 2
        return left + (column + 0.5) * pixel[1] * scale, top + (row + 0.5) * pixel[0] * scale

    def draw(self, *places: tuple[float, float], button: str = "left") -> None:
        """Press the button at the first place, and move over the others."""
        self.settle()
        self.page.mouse.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up(button=button)
        self.settle()

    def colour(self, x: float, y: float) -> np.ndarray:
        """Red, green and blue on the screen."""
        clip = {"x": int(x) - 1, "y": int(y) - 1, "width": 3, "height": 3}
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB"))[1, 1].astype(int)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def message(self) -> str:
        """The latest message; it is closed."""
        shown = self.page.locator(".message").last
        shown.wait_for()
        text = shown.locator("span").inner_text()
        shown.locator(".close").click()
        return text

    def download(self, action) -> tuple[str, bytes]:
        with self.page.expect_download() as begun:
            action()
        return begun.value.suggested_filename, open(begun.value.path(), "rb").read()
