"""The page in a headless Chromium, on a phantom whose objects the stand-in for the network finds exactly."""

import base64
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.interactive import session as session_module
from tests.images.dicom_files import write_series
from tests.interactive.reference import build, random_weights
from tests.server.browser import Viewer, chromium
from tests.server.region_engine import RegionEngine

SIDE = 48  # voxels of the phantom, and pixels of masks: a quarter of the size to which slices are resized
# z runs to the head, y to the left, x to the front: no axis lies as it is shown
DIRECTION = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
DARK, GREY, BRIGHT = 40, 120, 200  # intensities around the objects, of the second and of the first one
SHOWN = {DARK: 0, GREY: 128, BRIGHT: 255}  # the window is from the lowest to the highest one


def balls() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (z, y, x) and its two objects, which lie beside each other along y."""
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    first = ((z - 22) / 14) ** 2 + ((y - 15) / 10) ** 2 + ((x - 20) / 12) ** 2 < 1
    second = ((z - 26) / 12) ** 2 + ((y - 35) / 9) ** 2 + ((x - 24) / 11) ** 2 < 1
    image = np.full((SIDE,) * 3, DARK, np.int16)
    image[first], image[second] = BRIGHT, GREY
    return image, first, second


IMAGE, FIRST, SECOND = balls()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    image = sitk.GetImageFromArray(IMAGE)
    image.SetDirection(DIRECTION.reshape(-1).tolist())
    path = tmp_path_factory.mktemp("images") / "balls.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def network():
    return build(random_weights(), size=4 * SIDE)


@pytest.fixture
def server(serve, network, monkeypatch):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    return serve(model=network)


@pytest.fixture
def viewer(browser, server):
    viewer = Viewer(browser, server.url)
    yield viewer
    assert viewer.errors == []
    viewer.context.close()


def session_of(server):
    """The only session of a server."""
    (lease,) = server.state.leases._leases.values()
    return lease.holding.page.session


def labels_of(server) -> np.ndarray:
    return server.state.worker.run(session_of(server).labels)


def axial(viewer, y, x):
    """Place of a voxel on the axial plane: the front (high x) is at the top, the left (high y) at the right."""
    return viewer.at("axial", SIDE - 1 - x, y, SIDE, SIDE)


def array_of(content: bytes, tmp_path) -> np.ndarray:
    (tmp_path / "saved.nii.gz").write_bytes(content)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "saved.nii.gz")))


def test_from_an_image_to_a_file(viewer, server, file, tmp_path, monkeypatch):
    monkeypatch.setattr(RegionEngine, "delay", 0.05)
    viewer.open(file)
    assert viewer.text("#image-name") == "balls.nii.gz"
    assert "Drag a box" in viewer.text("#hint")
    viewer.key("Home", *["Shift+PageUp"] * 2, "PageUp", "PageUp")  # slice 22
    assert viewer.text("[data-cell='0'] .slice") == "22 / 47"

    # a box, and its mask
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    expected = np.zeros(IMAGE.shape, int)
    expected[22][FIRST[22]] = 1
    np.testing.assert_array_equal(labels_of(server), expected)
    red, green, blue = viewer.colour(*axial(viewer, 15, 20))
    assert blue > red + 30 > 30  # the object's colour lies over the grey
    red, green, blue = viewer.colour(*axial(viewer, 40, 40))
    assert red == green == blue == SHOWN[DARK]
    assert "propagates it" in viewer.text("#hint")

    # a correction on another slice, with the right button; it leaves a hole
    viewer.key("Shift+PageUp", "p")  # slice 32
    viewer.draw(axial(viewer, 15, 20))
    viewer.draw(axial(viewer, 15, 14), button="right")
    there = labels_of(server)[32] == 1
    assert there[15, 20] and not there[15, 14] and not there[~FIRST[32]].any()
    assert viewer.page.locator("#prompts li").all_inner_texts() == ["Axial 22\nbox", "Axial 32\n1 point, 1 excluded"]
    viewer.key("Control+z")
    viewer.settle()
    assert labels_of(server)[32].sum() == FIRST[32].sum()

    # through the volume, seen while it goes on, and stopped
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('of 48 slices')")
    assert viewer.text("#propagate") == "Stop"
    viewer.key("Escape")
    viewer.settle()
    viewer.page.wait_for_selector("#progress.ended")
    stopped = viewer.text("#progress-text")
    assert stopped.startswith("Stopped") and not stopped.startswith("Stopped: 48")
    assert 2 < (labels_of(server) == 1).any(axis=(1, 2)).sum() < FIRST.any(axis=(1, 2)).sum()
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 48 of 48')")
    np.testing.assert_array_equal(labels_of(server), FIRST)

    # a second object, which may not have what is the first one's: it is outlined over half of it
    viewer.key("k", "n", "l")
    viewer.page.wait_for_selector("[data-object='2'].active")
    viewer.key(",")
    corners = [(10, 12), (42, 12), (42, 36), (10, 36), (10, 12)]
    viewer.draw(*(axial(viewer, y, x) for y, x in corners))
    labels = labels_of(server)
    np.testing.assert_array_equal(labels == 1, FIRST)
    assert (labels[32] == 2).sum() > 200
    viewer.key("Control+z", "b")
    viewer.settle()
    np.testing.assert_array_equal(labels_of(server), FIRST)
    viewer.draw(axial(viewer, 25, 36), axial(viewer, 45, 12))
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    np.testing.assert_array_equal(labels_of(server), FIRST + 2 * SECOND)

    # the file
    name, content = viewer.download(lambda: viewer.key("Control+s"))
    assert name == "balls_segmentation.nii.gz"
    np.testing.assert_array_equal(array_of(content, tmp_path), labels_of(server))


@pytest.mark.parametrize(
    ("plane", "key", "axis", "place"),
    [
        ("axial", "1", 0, lambda z, y, x: (SIDE - 1 - x, y)),
        ("coronal", "2", 2, lambda z, y, x: (SIDE - 1 - z, y)),
        ("sagittal", "3", 1, lambda z, y, x: (SIDE - 1 - z, SIDE - 1 - x)),
    ],
)
def test_prompts_lie_where_they_are_drawn_in_each_plane(viewer, server, file, plane, key, axis, place):
    viewer.open(file)
    viewer.key("v", key)
    # the cursor is put into the second object with the small axial plane
    viewer.key("1")
    viewer.draw(axial(viewer, 35, 24))
    viewer.key(key, "p")
    viewer.draw(viewer.at(plane, *place(23, 35, 24), SIDE, SIDE))
    (prompted,) = session_of(server).prompts
    index = (23, 35, 24)[axis]
    assert (prompted.axis, prompted.index) == (axis, index)
    chosen = [slice(None)] * 3
    chosen[axis] = index
    expected = np.zeros(IMAGE.shape, int)
    expected[tuple(chosen)] = SECOND[tuple(chosen)]
    np.testing.assert_array_equal(labels_of(server), expected)


def test_a_range_of_slices(viewer, server, file):
    viewer.open(file)
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))  # slice 23
    viewer.key("PageDown", "PageDown", "[", "Shift+PageUp", "]")  # 21 to 31
    assert [viewer.page.locator(f"#{end}").input_value() for end in ("first", "last")] == ["21", "31"]
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 11 of 11')")
    expected = np.zeros(IMAGE.shape, int)
    expected[21:32] = FIRST[21:32]
    np.testing.assert_array_equal(labels_of(server), expected)
    viewer.key("\\")
    assert viewer.page.locator("#last").input_value() == "47"


def test_everything_with_the_keyboard(viewer, server, file):
    viewer.open(file)
    viewer.key("b", *["Shift+ArrowUp"], *["ArrowUp"], *["Shift+ArrowLeft"] * 2, "Space")
    viewer.key(*["Shift+ArrowDown"] * 2, *["ArrowDown"] * 6, *["Shift+ArrowRight"] * 2, *["ArrowRight"] * 4, "Space")
    viewer.settle()
    np.testing.assert_array_equal(labels_of(server)[23], FIRST[23])
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    viewer.key("k")
    viewer.page.wait_for_selector("[data-object='1'] [aria-pressed=true]")
    viewer.key("Delete")
    assert "is locked" in viewer.message()
    viewer.key("k")
    viewer.page.wait_for_selector("[data-object='1'] [aria-pressed=true]", state="detached")
    viewer.key("Delete")
    viewer.page.wait_for_selector("[data-object='1']", state="detached")
    assert not labels_of(server).any()
    viewer.key("Control+z")
    viewer.page.wait_for_selector("[data-object='1']")
    np.testing.assert_array_equal(labels_of(server), FIRST)
    viewer.key("?")
    assert viewer.page.locator("#help-dialog").is_visible()
    viewer.key("Escape")
    assert not viewer.page.locator("#help-dialog").is_visible()


def test_mouse_wheel_window_and_zoom(viewer, file):
    viewer.open(file)
    viewer.page.mouse.move(*axial(viewer, 15, 20))
    viewer.page.mouse.wheel(0, -100)
    viewer.page.mouse.wheel(0, -100)
    viewer.page.wait_for_selector("[data-cell='0'] .slice:has-text('25 / 47')")
    viewer.page.mouse.wheel(0, 100)
    viewer.page.wait_for_selector("[data-cell='0'] .slice:has-text('24 / 47')")
    # twice the width of the window: the same levels are nearer to the middle
    viewer.key("w", "c")
    before = viewer.colour(*axial(viewer, 40, 40))[0]
    x, y = axial(viewer, 30, 20)
    viewer.draw((x, y), (x + 200, y))
    assert viewer.colour(*axial(viewer, 40, 40))[0] > before + 20
    viewer.page.select_option("#preset", label="as the model sees it")
    viewer.settle()
    assert viewer.colour(*axial(viewer, 40, 40))[0] == before
    # twice as large around the pointer: what lies there stays there
    x, y = axial(viewer, 15, 28)
    assert viewer.colour(x, y)[0] == SHOWN[BRIGHT]
    edge = axial(viewer, 15, 34)
    assert viewer.colour(*edge)[0] == SHOWN[DARK]
    viewer.page.mouse.move(x, y)
    viewer.page.keyboard.down("Control")
    viewer.page.mouse.wheel(0, -300)
    viewer.page.keyboard.up("Control")
    viewer.settle()
    assert viewer.colour(x, y)[0] == viewer.colour(*edge)[0] == SHOWN[BRIGHT]
    viewer.key("0")
    viewer.settle()
    assert viewer.colour(*edge)[0] == SHOWN[DARK]


def test_a_reload_goes_on(viewer, server, file):
    viewer.open(file)
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.page.on("dialog", lambda dialog: dialog.accept())
    viewer.page.reload()
    viewer.page.wait_for_selector("#prompts li:has-text('Axial 23')")
    viewer.settle()
    red, _, blue = viewer.colour(*axial(viewer, 15, 20))
    assert blue > red + 30
    assert len(server.state.leases) == 1


def test_prompts_are_saved_and_loaded(viewer, server, file, tmp_path):
    viewer.open(file)
    viewer.page.locator(".object .name").dblclick()
    viewer.page.keyboard.type(" of the liver")
    viewer.key("Enter")
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.page.locator("#save").click()
    name, content = viewer.download(lambda: viewer.page.locator("[data-save=prompts]").click())
    assert name == "balls_prompts.json"
    (saved,) = json.loads(content)["objects"]
    assert len(saved["slices"]) == 1
    expected = labels_of(server)
    viewer.key("Delete")
    viewer.page.wait_for_selector("#prompts:has-text('None yet')")
    (tmp_path / name).write_bytes(content)
    viewer.page.locator("#load-input").set_input_files(tmp_path / name)
    viewer.page.wait_for_selector("[data-object='1']")
    viewer.settle()
    assert viewer.page.locator("[data-object='1'] .name").input_value() == saved["name"]
    np.testing.assert_array_equal(labels_of(server), expected)


def test_the_page_goes_on_after_its_place_is_lost(viewer, server, file):
    viewer.open(file)
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.page.wait_for_timeout(2500)  # prompts are kept in the page
    viewer.settle()
    server.state.leases.close()
    viewer.key("Control+z")
    with viewer.page.expect_response("**/page/prompts/file"):
        viewer.page.get_by_text("Open again").click()
    viewer.settle()
    assert viewer.text("#prompts li") == "Axial 23\nbox"
    np.testing.assert_array_equal(labels_of(server)[23], FIRST[23])


def test_the_surface_is_drawn(viewer, file):
    viewer.open(file)
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    viewer.page.wait_for_selector("[data-cell=surface] .empty", state="hidden")
    box = viewer.page.locator("[data-cell=surface]").bounding_box()
    red, _, blue = viewer.colour(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert blue > red + 30  # the first object's colour
    assert not viewer.colour(box["x"] + 8, box["y"] + box["height"] - 8).any()


def test_a_key_is_asked_for(browser, serve, network, file):
    server = serve(model=network, key="secret")
    viewer = Viewer(browser, server.url)
    for given in ("wrong", "secret"):
        viewer.page.locator("#key").fill(given)
        viewer.key("Enter")
        viewer.page.wait_for_timeout(200)
    viewer.page.wait_for_selector("#key-dialog", state="hidden")
    viewer.open(file)
    assert viewer.text("#image-name") == "balls.nii.gz"
    viewer.context.close()


def test_a_file_that_is_no_image_is_named(viewer, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    viewer.page.locator("#file-input").set_input_files(tmp_path / "notes.txt")
    assert "notes.txt" in viewer.message()
    assert viewer.page.locator("#opener").is_visible()


def test_a_dicom_folder_and_dicom_seg(viewer, server, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    write_series(tmp_path / "series", IMAGE - 100, spacing=(1.0, 1.0, 1.0))
    viewer.page.locator("#folder-input").set_input_files(tmp_path / "series")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()
    # of a series, rows run to the back and columns to the left
    viewer.draw(*(viewer.at("axial", *corner, SIDE, SIDE) for corner in [(3, 6), (27, 34)]))
    viewer.page.locator("#save").click()
    name, content = viewer.download(lambda: viewer.page.locator("[data-save='.dcm']").click())
    (tmp_path / name).write_bytes(content)
    assert viewer.text("#image-name") == "series" and name == "series_segmentation.dcm"
    frames = highdicom.seg.segread(str(tmp_path / name)).pixel_array.reshape(-1, SIDE, SIDE)
    np.testing.assert_array_equal(frames.max(axis=0), FIRST[23])


def test_a_dropped_file_is_opened_and_an_unsaved_one_is_asked_for(viewer, file, tmp_path):
    asked = []

    def answer(dialog):
        asked.append(dialog.message)
        dialog.dismiss() if len(asked) == 1 else dialog.accept()

    viewer.page.on("dialog", answer)
    other = tmp_path / "other.nii.gz"
    other.write_bytes(file.read_bytes())
    drop(viewer, file)
    viewer.page.wait_for_selector("#image-name:has-text('balls')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    drop(viewer, other)
    viewer.settle()
    assert viewer.text("#image-name") == "balls.nii.gz" and "not saved" in asked[0]
    drop(viewer, other)
    viewer.page.wait_for_selector("#image-name:has-text('other')")
    assert len(asked) == 2


def drop(viewer, path):
    """Drop a file on the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    viewer.page.evaluate(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name));
            window.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [path.name, content],
    )
