"""Pictures of the page for the documentation, of the page as it is.

    SAM2_3dMed_pictures=docs/images python -m pytest -n0 tests/server/page/test_page_pictures.py

writes docs/images/page.png and page_video.png, in light colours; without the variable pictures are made and thrown
away.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from nnunetv2_sam2_3dmed.interactive import session as session_module
from tests.interactive.reference import build, random_weights
from tests.server.browser import Viewer, chromium
from tests.server.region_engine import RegionEngine

SHAPE = (70, 220, 220)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The file of a synthetic CT, and two organs in it."""
    z, y, x = (np.linspace(-1, 1, length).reshape(np.roll((-1, 1, 1), axis)) for axis, length in enumerate(SHAPE))

    def ellipsoid(centre, axes):
        return sum(((at - c) / length) ** 2 for at, c, length in zip((z, y, x), centre, axes)) < 1

    body = ((y / 0.68) ** 2 + (x / 0.92) ** 2 < 1) & (z < 2)
    organs = {
        "Liver": ellipsoid((0.1, -0.12, -0.42), (0.75, 0.4, 0.4)) & ~ellipsoid((-0.4, 0.3, -0.2), (0.7, 0.35, 0.3)),
        "Left kidney": ellipsoid((-0.1, 0.25, 0.46), (0.6, 0.2, 0.15)),
    }
    array = np.where(body, 10.0, -1000.0)
    for organ, intensity in zip(organs.values(), (95, 150)):
        array[organ] = intensity
    array[(y - 0.4) ** 2 + x**2 + 0 * z < 0.13**2] = 300
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.5)
    image = sitk.GetImageFromArray((array + 8 * noise / noise.std()).astype(np.int16))
    image.SetSpacing((1.5, 1.5, 3.0))
    path = tmp_path_factory.mktemp("pictures") / "synthetic_ct.nii.gz"
    sitk.WriteImage(image, str(path))
    return path, organs


def middle(organ):
    """The slice where an organ is largest, and places around its corners there."""
    index = int(organ.sum(axis=(1, 2)).argmax())
    rows, columns = ndimage.find_objects(organ[index].astype(np.uint8))[0]
    return index, (rows.start - 4, columns.start - 4), (rows.stop + 3, columns.stop + 3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_with_two_organs(serve, case, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    path, organs = case
    _, rows, columns = SHAPE
    with chromium() as browser:
        server = serve(model=build(random_weights(), size=512))
        viewer = Viewer(browser, server.url, scheme)
        viewer.open(path)
        for name, organ in organs.items():
            if name != "Liver":
                viewer.key("k", "n")
                viewer.page.wait_for_selector("[data-object='2'].active")
            viewer.page.locator(".object.active .name").fill(name)
            viewer.page.keyboard.press("Enter")
            viewer.settle()
            index, first, last = middle(organ)
            viewer.page.locator("canvas[data-plane=axial]").focus()
            viewer.key("Home", *["PageUp"] * index)
            viewer.draw(*(viewer.at("axial", *corner, rows, columns) for corner in (first, last)))
            viewer.key("Enter")
            viewer.page.wait_for_selector("#progress-text:has-text('Done')")
        viewer.key("v")
        viewer.draw(viewer.at("axial", *np.add(first, last) / 2, rows, columns))
        viewer.page.mouse.move(1, 1)
        viewer.settle()
        folder = Path(os.environ.get("SAM2_3dMed_pictures", tmp_path)) if scheme == "light" else tmp_path
        picture = folder / "page.png"

        def both_have_surfaces() -> bool:
            viewer.page.screenshot(path=picture)
            pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
            assert pixels.shape == (720, 1280, 3)
            red, green, blue = np.moveaxis(pixels[480:680, 730:1000], -1, 0)
            return ((blue > red + 40) & (blue > green)).sum() > 500 and (red > blue + 60).sum() > 200

        viewer.wait_until(both_have_surfaces)  # they follow when masks stay as they are
    assert viewer.errors == []


FRAMES, ROWS, COLUMNS = 24, 240, 320


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A folder of synthetic frames like those of an echocardiogram: a dark chamber that beats in bright tissue."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    depth, side = rows + 10.0, columns - COLUMNS / 2
    sector = (np.abs(np.arctan2(side, depth)) < 0.65) & (np.hypot(depth, side) < 235)
    speckle = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((ROWS, COLUMNS)), 1.2)
    folder = tmp_path_factory.mktemp("videos") / "synthetic_echo"
    folder.mkdir()
    for index in range(FRAMES):
        beat = 1 + 0.15 * np.cos(2 * np.pi * index / 12)
        tissue = 120 - 0.25 * depth + 14 * speckle / speckle.std()
        inside = ((rows - 125) / (52 * beat)) ** 2 + (side / (30 * beat)) ** 2 < 1
        frame = np.where(sector, np.where(inside, 22 + 2 * speckle, tissue), 0)
        Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)).save(folder / f"{index:02d}.png")
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_with_a_video(serve, video, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    with chromium() as browser:
        viewer = Viewer(browser, serve(model=build(random_weights(), size=512)).url, scheme)
        viewer.page.locator("#folder-input").set_input_files(video)
        viewer.page.wait_for_selector("#player", state="visible")
        viewer.page.wait_for_selector("#opener", state="hidden")
        viewer.page.locator(".object.active .name").fill("Chamber")
        viewer.page.keyboard.press("Enter")
        viewer.page.locator("canvas[data-plane=frame]").focus()
        viewer.key(*["PageDown"] * 6)
        viewer.draw(*(viewer.at("frame", *corner, ROWS, COLUMNS) for corner in [(76, 130), (174, 190)]))
        viewer.key("Enter")
        viewer.page.wait_for_selector("#progress-text:has-text('Done')")
        viewer.key(*["PageDown"] * 5)
        viewer.page.mouse.move(1, 1)
        viewer.settle()
        folder = Path(os.environ.get("SAM2_3dMed_pictures", tmp_path)) if scheme == "light" else tmp_path
        viewer.page.screenshot(path=folder / "page_video.png")
        red, _, blue = viewer.colour(*viewer.at("frame", 125, 160, ROWS, COLUMNS))
        beside = viewer.colour(*viewer.at("frame", 125, 215, ROWS, COLUMNS))
    assert viewer.errors == [] and blue > red + 30 and abs(beside[2] - beside[0]) < 12
