"""Videos in the page in a headless Chromium, with the stand-in for the network."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from nnunetv2_sam2_3dmed.video import open_video
from tests.server.page_phantom import drop, labels_of, prompts_of
from tests.server.region_engine import RegionEngine
from tests.server.video_files import BALL, COLUMNS, COUNT, ROWS, ball, centre, frame, write_frames
from tests.video.files import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "ball.mp4"
    write_video(path, frames=[frame(index) for index in range(COUNT)], options={"crf": "8"})
    return path


def at(viewer, row, column):
    return viewer.at("frame", row, column, ROWS, COLUMNS)


def box_around(viewer, index):
    row, column = centre(index)
    viewer.draw(at(viewer, row - 11, column - 11), at(viewer, row + 11, column + 11))


def shown(viewer) -> str:
    return viewer.text("[data-cell='0'] .slice")


def overlap(found, index) -> float:
    return (found & ball(index)).sum() / (found | ball(index)).sum()


def test_from_a_video_to_files(viewer, server, video, monkeypatch, tmp_path):
    monkeypatch.setattr(RegionEngine, "delay", 1.0)
    viewer.open(video)
    assert viewer.text("#image-name") == "ball.mp4" and viewer.text("#image-size") == "64 × 48, 14 frames"
    assert shown(viewer) == "0 / 13" and viewer.text("#time") == "0:00.00 / 0:00.52"
    for hidden in ("#preset", "[data-tool=window]", "[data-cell=surface]"):
        assert not viewer.page.locator(hidden).is_visible(), hidden
    assert np.abs(viewer.colour(*at(viewer, *centre(0))) - BALL).max() < 12  # in colour

    # a box on a frame within, and a second object on another one
    viewer.key(*["PageDown"] * 4)
    assert shown(viewer) == "4 / 13"
    box_around(viewer, 4)
    assert overlap(labels_of(server)[4] == 1, 4) > 0.85
    red, green, blue = viewer.colour(*at(viewer, *centre(4)))
    assert blue > BALL[2] + 25  # the object's colour lies over the frame's
    assert viewer.text("#prompts li") == "Frame 4\nbox"

    # both ways, seen while it goes on, and stopped
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('of 14 frames')")
    viewer.key("Escape")
    viewer.page.wait_for_selector("#progress.ended")
    assert viewer.text("#progress-text").startswith("Stopped")
    monkeypatch.setattr(RegionEngine, "delay", 0.0)
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 14 of 14 frames')")
    labels = labels_of(server)
    assert min(overlap(labels[index] == 1, index) for index in range(COUNT)) > 0.8

    # a locked object keeps its pixels; steps are taken back and done again
    viewer.key("k", "n", "l")
    viewer.page.wait_for_selector("[data-object='2'].active")
    viewer.key("End")
    row, column = centre(COUNT - 1)
    viewer.draw(*(at(viewer, row + r, column + c) for r, c in [(-4, -20), (-4, 0), (4, 0), (4, -20), (-4, -20)]))
    assert prompts_of(server)[-1] == (2, 0, COUNT - 1)
    both = labels_of(server)
    np.testing.assert_array_equal(both == 1, labels == 1)
    assert (both == 2).any()
    viewer.key("Control+z")
    viewer.settle()
    np.testing.assert_array_equal(labels_of(server), labels)
    viewer.key("Control+y")
    viewer.settle()
    np.testing.assert_array_equal(labels_of(server), both)

    # files
    name, content = viewer.download(lambda: viewer.key("Control+s"))
    assert name == "ball_segmentation.zip"
    archive = zipfile.ZipFile(io.BytesIO(content))
    found = [np.asarray(Image.open(archive.open(one))) for one in sorted(archive.namelist())]
    np.testing.assert_array_equal(found, both)
    for ending, look in ((".mp4", None), (".json", json.loads), (".nii.gz", None)):
        viewer.page.locator("#save").click()
        name, content = viewer.download(viewer.page.locator(f"[data-for=video][data-save='{ending}']").click)
        assert name == f"ball_segmentation{ending}"
        (tmp_path / name).write_bytes(content)
        if look is not None:
            assert {one["category_id"] for one in look(content)["annotations"]} == {1, 2}
    assert len(open_video(tmp_path / "ball_segmentation.mp4")) == COUNT
    viewer.page.locator("#save").click()
    assert viewer.page.locator("[data-for=video][data-save='.dcm']").is_disabled()
    assert not viewer.page.locator("[data-for=volume][data-save='.dcm']").is_visible()


def test_it_plays_at_its_rate_with_the_mask(viewer, server, video):
    viewer.open(video)
    box_around(viewer, 0)
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    for _ in range(COUNT - 1):  # no frame has to be waited for later
        viewer.key("PageDown")
        viewer.settle()
    viewer.page.locator("#timeline").fill("0")
    viewer.settle()
    viewer.page.locator("#speed").select_option("0.5")
    viewer.page.locator("canvas[data-plane=frame]").focus()
    # from here on time goes on as the test says, in the 16 ms of an animation frame
    viewer.page.clock.install(time=0)
    viewer.page.clock.pause_at(1000)
    viewer.page.keyboard.press("Space")
    viewer.page.clock.run_for(60)
    assert viewer.page.locator("#play").get_attribute("aria-label") == "Pause"
    seen = []
    for _ in range(2 * COUNT):
        seen.append(int(shown(viewer).split(" / ")[0]))
        viewer.page.clock.run_for(80)  # 25 frames a second at half the rate
    assert seen == [*range(COUNT), *range(COUNT)]
    viewer.page.clock.run_for(5 * 80)
    # it stands where it was stopped, with the mask of that frame
    viewer.page.keyboard.press("Space")
    viewer.page.clock.run_for(300)
    assert shown(viewer) == "5 / 13" and viewer.page.locator("#play").get_attribute("aria-label") == "Play"
    viewer.page.clock.resume()
    viewer.settle()
    assert viewer.colour(*at(viewer, *centre(5)))[2] > BALL[2] + 25
    assert viewer.page.locator("#timeline").input_value() == "5"


def test_the_slider_and_the_keyboard(viewer, server, video):
    viewer.open(video)
    line = viewer.page.locator("#timeline").bounding_box()
    viewer.page.mouse.click(line["x"] + line["width"] - 7, line["y"] + line["height"] / 2)
    viewer.settle()
    assert shown(viewer) == "13 / 13" and viewer.text("#time").startswith("0:00.52")
    viewer.key("PageUp", "PageUp")
    assert shown(viewer) == "11 / 13"
    viewer.page.mouse.move(*at(viewer, 20, 20))
    viewer.page.mouse.wheel(0, 100)
    viewer.settle()
    assert shown(viewer) == "12 / 13"
    # a point at the cursor, by the keyboard alone
    viewer.key("p", "Home", *["ArrowUp"] * 7, "Shift+ArrowLeft", *["ArrowLeft"] * 6)
    viewer.settle()
    viewer.key("Shift+Space")
    viewer.settle()
    assert prompts_of(server) == [(1, 0, 0)]
    viewer.key("1", "2", "4", "w")
    assert shown(viewer) == "0 / 13" and viewer.page.locator("canvas[data-plane=frame]").is_visible()


def test_frames_of_a_range_only(viewer, server, video):
    viewer.open(video)
    viewer.key(*["PageDown"] * 5)
    box_around(viewer, 5)
    viewer.key("PageUp", "[", *["PageDown"] * 4, "]", "Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 5 of 5')")
    assert np.flatnonzero(labels_of(server).any(axis=(1, 2))).tolist() == [4, 5, 6, 7, 8]
    assert viewer.page.locator("#marks .band").count() == 1 and viewer.page.locator("#marks .mark").count() == 1


def test_a_dropped_video_a_folder_of_frames_and_a_volume(viewer, server, video, file, tmp_path):
    drop(viewer, video)
    viewer.page.wait_for_selector("#player", state="visible")
    viewer.page.locator("#folder-input").set_input_files(write_frames(tmp_path / "frames", 5))
    viewer.page.wait_for_selector("#image-name:has-text('frames')")
    viewer.settle()
    assert viewer.text("#image-size") == "64 × 48, 5 frames"
    viewer.open(file)
    assert not viewer.page.locator("#player").is_visible() and viewer.page.locator("#preset").is_visible()
    assert viewer.page.locator("canvas").count() == 4


def test_a_reload_goes_on(viewer, server, video):
    viewer.open(video)
    viewer.key("PageDown")
    box_around(viewer, 1)
    viewer.page.on("dialog", lambda dialog: dialog.accept())
    viewer.page.reload()
    viewer.page.wait_for_selector("#prompts li:has-text('Frame 1')")
    viewer.settle()
    assert shown(viewer) == "1 / 13" and viewer.colour(*at(viewer, *centre(1)))[2] > BALL[2] + 25


def test_a_frame_that_cannot_be_had_is_told_when_it_is_due(viewer, server, video):
    refusal = {"status": 400, "json": {"detail": "frame 6 cannot be decoded."}}
    viewer.page.route("**/page/frames/6", lambda route: route.fulfill(**refusal))
    viewer.open(video)
    viewer.page.locator("#speed").select_option("0.25")
    viewer.page.locator("canvas[data-plane=frame]").focus()
    viewer.key("Space")
    assert viewer.message() == "Frame 6 cannot be decoded."
    viewer.frame()
    assert shown(viewer) == "5 / 13" and viewer.page.locator("#play").get_attribute("aria-label") == "Play"
