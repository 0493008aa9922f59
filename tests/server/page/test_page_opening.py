"""The page in a headless Chromium: images are opened, work is kept, saved and gone on with."""

import json

import numpy as np
import pytest

from tests.images.dicom_files import write_series
from tests.server.browser import Viewer
from tests.server.page_phantom import FIRST, IMAGE, SIDE, axial, draw_first, drop, labels_of, prompts_of, write_image
from tests.server.region_engine import RegionEngine


@pytest.fixture
def other(tmp_path):
    """The image of ``file`` under another name."""
    return write_image(tmp_path / "other.nii.gz")


def test_a_reload_goes_on(viewer, server, file):
    viewer.open(file)
    draw_first(viewer)
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
    draw_first(viewer)
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


def draw_and_keep(viewer) -> None:
    """Segment the first object, and wait until its prompts are kept in the page."""
    with viewer.page.expect_response(lambda one: one.url.endswith("/page/prompts") and one.request.method == "GET"):
        draw_first(viewer)
    viewer.frame()


def open_again(viewer, server) -> None:
    """Let the page lose its place, and click on what it offers."""
    server.state.leases.close()
    viewer.key("n")
    with viewer.page.expect_response("**/page/open"):
        viewer.page.get_by_text("Open again").click()
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()


def test_the_page_goes_on_after_its_place_is_lost(viewer, server, file):
    viewer.open(file)
    draw_and_keep(viewer)
    open_again(viewer, server)
    assert viewer.text("#prompts li") == "Axial 23\nbox"
    np.testing.assert_array_equal(labels_of(server)[23], FIRST[23])


@pytest.mark.parametrize("since", ["undone", "other image"])
def test_only_prompts_that_are_there_come_back(viewer, server, file, other, since):
    viewer.page.on("dialog", lambda dialog: dialog.accept())
    viewer.open(file)
    draw_and_keep(viewer)
    if since == "undone":
        viewer.key("Control+z")
        viewer.settle()
    else:
        viewer.open(other)
    open_again(viewer, server)
    assert "None yet" in viewer.text("#prompts")
    assert prompts_of(server) == []


def test_an_answer_is_not_shown_with_another_image(viewer, server, file, other):
    viewer.page.on("dialog", lambda dialog: dialog.accept())
    held = []
    viewer.hold("**/page/prompts", lambda route: held.append((route, route.fetch())))
    viewer.open(file)
    viewer.page.keyboard.press("p")
    viewer.page.mouse.click(*axial(viewer, 15, 20))
    viewer.wait_until(lambda: held)
    viewer.page.locator("#file-input").set_input_files(other)
    viewer.page.wait_for_timeout(1000)  # enough to open it
    ((route, answer),) = held
    route.fulfill(response=answer)
    viewer.page.wait_for_selector("#image-name:has-text('other')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()
    assert "None yet" in viewer.text("#prompts")
    assert prompts_of(server) == []


def test_a_key_is_asked_for(browser, serve, network, file):
    server = serve(model=network, key="secret")
    viewer = Viewer(browser, server.url)
    for given in ("wrong", "ключ", "secret"):
        assert viewer.page.evaluate("sessionStorage.getItem('sam2_3dmed_key')") is None
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
    name, content = viewer.download(lambda: viewer.page.locator("[data-for=volume][data-save='.dcm']").click())
    (tmp_path / name).write_bytes(content)
    assert viewer.text("#image-name") == "series" and name == "series_segmentation.dcm"
    frames = highdicom.seg.segread(str(tmp_path / name)).pixel_array.reshape(-1, SIDE, SIDE)
    np.testing.assert_array_equal(frames.max(axis=0), FIRST[23])


def test_one_of_several_dicom_series_is_chosen(viewer, server, tmp_path):
    def named(number, description):
        def change(data, z):
            data.SeriesNumber, data.SeriesDescription = number, description

        return change

    folder = tmp_path / "study"
    write_series(folder, IMAGE[:9] - 100, spacing=(1.0, 1.0, 1.0), change=named(1, "Scout"))
    for file in list(folder.iterdir()):
        file.rename(folder / f"scout_{file.name}")
    write_series(folder, IMAGE - 100, spacing=(1.0, 1.0, 1.0), change=named(2, "Thorax"))
    viewer.page.locator("#folder-input").set_input_files(folder)
    viewer.page.wait_for_selector("#series-dialog[open]")
    shown = viewer.page.locator("#series-list li").all_inner_texts()
    assert sorted(text.split("\n") for text in shown) == [
        ["1: Scout", "CT, 9 × 48 × 48"],
        ["2: Thorax", "CT, 48 × 48 × 48"],
    ]
    viewer.key("Escape")
    viewer.page.wait_for_selector("#opening", state="hidden")
    assert viewer.page.locator("#opener").is_visible()
    viewer.page.locator("#folder-input").set_input_files(folder)
    viewer.page.get_by_text("2: Thorax").click()
    viewer.page.wait_for_selector("#opener", state="hidden")
    assert viewer.text("#image-size") == "48 × 48 × 48"
    # the same one once more, without a question
    viewer.settle()
    open_again(viewer, server)
    assert viewer.text("#image-size") == "48 × 48 × 48"


def test_a_failed_upload_ends_the_others_and_leaves_nothing(viewer, server, tmp_path):
    write_series(tmp_path / "series", IMAGE - 100, spacing=(1.0, 1.0, 1.0))
    sent = []

    def send(route):
        sent.append(route)
        refusal = {"status": 400, "content_type": "application/json", "body": json.dumps({"detail": "it broke off."})}
        route.fulfill(**refusal) if len(sent) == 6 else route.continue_()

    viewer.hold("**/page/files?*", send)
    viewer.page.locator("#folder-input").set_input_files(tmp_path / "series")
    assert viewer.message() == "It broke off."
    viewer.page.wait_for_timeout(300)
    assert 6 <= len(sent) <= 9  # four at once
    viewer.page.unroute("**/page/files?*")
    viewer.page.locator("#folder-input").set_input_files(tmp_path / "series")
    viewer.page.wait_for_selector("#opener", state="hidden")
    assert viewer.text("#image-size") == "48 × 48 × 48"


def test_the_place_is_kept_while_a_first_image_is_sent(viewer, server, file):
    held, beats = [], []
    viewer.page.clock.install()
    viewer.hold("**/page/files?*", lambda route: held.append(route))
    viewer.page.on("request", lambda one: beats.append(one) if one.url.endswith("/heartbeat") else None)
    viewer.page.locator("#file-input").set_input_files(file)
    viewer.page.wait_for_selector("#opening:has-text('Sending')")
    with viewer.page.expect_response("**/page/heartbeat"):
        viewer.page.clock.run_for(60_000)
    assert len(beats) == 3
    # a place with nothing in it is given up without a word
    server.state.leases.close()
    with viewer.page.expect_response("**/page/heartbeat"):
        viewer.page.clock.run_for(20_000)
    assert viewer.page.locator(".message").count() == 0


def test_what_came_after_a_file_was_made_is_not_saved(viewer, file, other, monkeypatch):
    asked, held = [], []
    viewer.page.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.accept())
    viewer.hold("**/page/segmentation?*", lambda route: held.append((route, route.fetch())))
    monkeypatch.setattr(RegionEngine, "delay", 0.5)
    viewer.open(file)
    draw_first(viewer)
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('of 48 slices')")
    viewer.page.keyboard.press("Control+s")
    viewer.wait_until(lambda: held)
    monkeypatch.setattr(RegionEngine, "delay", 0.0)
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 48 of 48')")
    ((route, answer),) = held
    viewer.download(lambda: route.fulfill(response=answer))
    viewer.open(other)
    assert ["not saved" in message for message in asked] == [True]


def test_a_dropped_file_is_opened_and_an_unsaved_one_is_asked_for(viewer, file, other):
    asked = []

    def answer(dialog):
        asked.append(dialog.message)
        dialog.dismiss() if len(asked) == 1 else dialog.accept()

    viewer.page.on("dialog", answer)
    drop(viewer, file)
    viewer.page.wait_for_selector("#image-name:has-text('balls')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()
    draw_first(viewer)
    drop(viewer, other)
    viewer.settle()
    assert viewer.text("#image-name") == "balls.nii.gz" and "not saved" in asked[0]
    drop(viewer, other)
    viewer.page.wait_for_selector("#image-name:has-text('other')")
    assert len(asked) == 2


def test_masks_are_unsaved_until_a_segmentation_is_saved(viewer, file, other):
    asked = []

    def answer(dialog):
        asked.append(dialog.type)
        dialog.accept() if dialog.type == "beforeunload" else dialog.dismiss()

    viewer.page.on("dialog", answer)
    viewer.open(file)
    draw_first(viewer)
    viewer.page.locator("#save").click()
    viewer.download(lambda: viewer.page.locator("[data-save=prompts]").click())
    for _ in range(2):
        viewer.page.reload()
        viewer.page.wait_for_selector("#prompts li:has-text('Axial 23')")
    viewer.settle()
    viewer.page.locator("#file-input").set_input_files(other)
    viewer.frame()
    assert asked == ["beforeunload", "beforeunload", "confirm"]
    assert viewer.text("#image-name") == "balls.nii.gz"
    viewer.download(lambda: viewer.key("Control+s"))
    viewer.page.reload()
    viewer.page.wait_for_selector("#prompts li:has-text('Axial 23')")
    viewer.open(other)
    assert viewer.text("#image-name") == "other.nii.gz"
    assert len(asked) == 3
