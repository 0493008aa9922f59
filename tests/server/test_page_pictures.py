"""Pictures of the page for the documentation, of the page as it is.

    SAM2_3dMed_pictures=docs/images python -m pytest -n0 tests/server/test_page_pictures.py

writes docs/images/page.png, in light colours; without the variable pictures are made and thrown away.
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
        viewer.page.wait_for_timeout(1500)  # the surface follows when masks stay as they are
        viewer.page.mouse.move(1, 1)
        viewer.settle()
        folder = Path(os.environ.get("SAM2_3dMed_pictures", tmp_path)) if scheme == "light" else tmp_path
        picture = folder / "page.png"
        viewer.page.screenshot(path=picture)
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (720, 1280, 3) and viewer.errors == []
    surface = pixels[480:680, 730:1000]
    red, green, blue = np.moveaxis(surface, -1, 0)
    assert ((blue > red + 40) & (blue > green)).sum() > 500 and (red > blue + 60).sum() > 200  # both objects
