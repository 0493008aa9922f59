"""The page in a headless Chromium, on a phantom whose objects the stand-in for the network finds exactly."""

import time

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from tests.server.page_phantom import (
    BRIGHT,
    DARK,
    FIRST,
    IMAGE,
    SECOND,
    SHOWN,
    SIDE,
    axial,
    draw_first,
    labels_of,
    prompts_of,
    session_of,
)
from tests.server.region_engine import RegionEngine


def array_of(content: bytes, tmp_path) -> np.ndarray:
    (tmp_path / "saved.nii.gz").write_bytes(content)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "saved.nii.gz")))


def test_from_an_image_to_a_file(viewer, server, file, tmp_path, monkeypatch):
    monkeypatch.setattr(RegionEngine, "delay", 0.5)
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
    viewer.page.wait_for_function("() => parseInt(document.getElementById('progress-text').innerText) >= 4")
    assert viewer.text("#propagate") == "Stop"
    viewer.key("Escape")
    viewer.settle()
    viewer.page.wait_for_selector("#progress.ended")
    stopped = viewer.text("#progress-text")
    assert stopped.startswith("Stopped") and not stopped.startswith("Stopped: 48")
    assert 2 < (labels_of(server) == 1).any(axis=(1, 2)).sum() < FIRST.any(axis=(1, 2)).sum()
    monkeypatch.setattr(RegionEngine, "delay", 0.0)
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


def test_prompts_are_for_the_object_that_is_being_added(viewer, server, file):
    held = []
    viewer.hold("**/page/objects", lambda route: held.append((route, route.fetch())))
    viewer.open(file)
    viewer.page.keyboard.press("n")
    viewer.page.mouse.move(*axial(viewer, 3, 34))
    viewer.page.mouse.down()
    viewer.page.mouse.move(*axial(viewer, 27, 6))
    viewer.page.mouse.up()
    viewer.wait_until(lambda: held)
    ((route, answer),) = held
    route.fulfill(response=answer)
    viewer.page.wait_for_selector("[data-object='2'].active")
    viewer.settle()
    assert prompts_of(server) == [(2, 0, 23)]


def test_a_drawing_lies_on_the_slice_on_which_it_was_begun(viewer, server, file):
    viewer.open(file)  # slice 23
    viewer.page.mouse.move(*axial(viewer, 3, 34))
    viewer.page.mouse.down()
    viewer.page.mouse.move(*axial(viewer, 20, 10), steps=3)
    viewer.page.mouse.wheel(0, -100)
    viewer.frame()
    viewer.page.mouse.move(*axial(viewer, 27, 6), steps=3)
    viewer.page.mouse.up()
    viewer.settle()
    assert prompts_of(server) == [(1, 0, 23)]
    np.testing.assert_array_equal(labels_of(server)[23], FIRST[23])
    # corners on two slices are no box
    viewer.key("Control+z", "Space", *["Shift+ArrowDown"] * 2, "PageUp")
    viewer.settle()
    viewer.key("Space")
    viewer.settle()
    assert prompts_of(server) == []
    viewer.key(*["Shift+ArrowUp"] * 3, *["Shift+ArrowRight"] * 2, "Space")
    viewer.settle()
    assert prompts_of(server) == [(1, 0, 24)]


def test_no_prompt_is_taken_while_another_slice_is_seen(viewer, server, file):
    held = []
    viewer.hold("**/page/slices/0/33", lambda route: held.append(route))
    viewer.open(file)  # slice 23
    viewer.key("p", "Shift+PageUp")
    canvas = viewer.page.locator("canvas[data-plane=axial][aria-busy=true]")
    canvas.wait_for()
    assert viewer.text("[data-cell='0'] .slice") == "33 / 47"
    viewer.page.wait_for_timeout(400)
    dark, bright = viewer.colour(*axial(viewer, 40, 40))[0], viewer.colour(*axial(viewer, 15, 28))[0]
    assert dark == SHOWN[DARK] and bright < SHOWN[BRIGHT] / 2
    viewer.page.mouse.click(*axial(viewer, 15, 20))
    viewer.page.keyboard.press("Space")
    viewer.page.wait_for_timeout(300)
    assert prompts_of(server) == []
    held[0].continue_()
    canvas.wait_for(state="detached")
    viewer.page.mouse.click(*axial(viewer, 15, 20))
    viewer.settle()
    assert prompts_of(server) == [(1, 0, 33)]


def test_the_foot_says_why_nothing_happens_and_what_was_done(viewer, server, file):
    viewer.open(file)
    viewer.key("Control+s")
    assert viewer.message() == "No object has a mask yet: nothing was saved."
    viewer.key("Enter")
    assert "Nothing to propagate yet" in viewer.text("#hint")
    viewer.page.mouse.click(*axial(viewer, 15, 20))
    viewer.frame()
    assert "Drag the box" in viewer.text("#hint")
    viewer.key("p")
    viewer.page.mouse.click(*axial(viewer, -1, 20))
    viewer.frame()
    assert "outside of the image" in viewer.text("#hint") and prompts_of(server) == []

    viewer.key("b")
    draw_first(viewer)
    assert viewer.text("#status-quality").startswith("Expected IoU")
    viewer.key("n")
    viewer.page.wait_for_selector("[data-object='2'].active")
    viewer.settle()
    assert viewer.text("#status-quality") == ""  # of the other object
    name, _ = viewer.download(lambda: viewer.key("Control+s"))
    viewer.settle()
    assert viewer.text("#hint") == f"Saved as {name}: 1 Object 1"
    viewer.key("Control+z")
    viewer.settle()
    assert viewer.text("#hint") == "Taken back: the latest step of Object 1." and prompts_of(server) == []
    viewer.key("p")  # another tool says what it is for
    assert viewer.text("#hint") == "Click on the structure."


def test_other_planes_are_filled_while_it_propagates(viewer, file, monkeypatch):
    monkeypatch.setattr(RegionEngine, "delay", 0.5)
    packed = PageSession.packed_labels

    def slowly(self, axis, index):
        """Slower than the page learns of further slices."""
        time.sleep(0.4)
        return packed(self, axis, index)

    viewer.open(file)
    draw_first(viewer)  # slice 23
    monkeypatch.setattr(PageSession, "packed_labels", slowly)
    viewer.key("Enter")
    viewer.page.wait_for_selector("#propagate:has-text('Stop')")
    seen = False
    while not seen:
        red, _, blue = viewer.colour(*viewer.at("coronal", SIDE - 1 - 25, 15, SIDE, SIDE))
        running = viewer.text("#propagate") == "Stop"
        seen = running and blue > red + 30  # the object's colour on slice 25
        assert running
    monkeypatch.setattr(RegionEngine, "delay", 0.0)


def test_a_propagation_is_watched_again_after_the_connection_was_lost(viewer, server, file, monkeypatch):
    monkeypatch.setattr(RegionEngine, "delay", 0.2)
    lost = []

    def unless_lost(route):
        if lost:
            lost.append(route)
            route.abort()
        else:
            route.continue_()

    viewer.hold("**/page/progress", unless_lost)
    viewer.open(file)
    draw_first(viewer)
    viewer.key("Enter")
    viewer.page.wait_for_selector("#propagate:has-text('Stop')")
    lost.append(None)
    viewer.wait_until(lambda: len(lost) > 3)  # asked again and again
    assert viewer.page.locator(".message").all_inner_texts() == ["The server does not answer. Is it still running?"]
    lost.clear()
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 48 of 48')")
    viewer.page.wait_for_selector(".message", state="detached")
    np.testing.assert_array_equal(labels_of(server), FIRST)
    viewer.settle()
    red, _, blue = viewer.colour(*viewer.at("coronal", SIDE - 1 - 25, 15, SIDE, SIDE))
    assert blue > red + 30  # of a slice that was propagated meanwhile


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
