"""A round's queue in a headless Chromium, with the stand-in for the network."""

import time
from dataclasses import replace

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.times import read_times
from nnunetv2_sam2_3dmed.interactive import session as session_module
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.server.browser import Viewer
from tests.server.page.round_of_phantoms import HALF, NAMES, SLICE, read, rows, write_labels
from tests.server.page_phantom import FIRST, SECOND, axial, labels_of, prompts_of
from tests.server.region_engine import RegionEngine


@pytest.fixture
def server(serve, network, queue, monkeypatch):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    return serve(model=network, round=queue)


@pytest.fixture
def viewer(browser, server):
    viewer = Viewer(browser, server.url)
    try:
        viewer.page.wait_for_selector("#round", state="visible")
        viewer.settle()
        yield viewer
        assert viewer.errors == []
    finally:
        viewer.context.close()


def next_case(viewer, name, asks=False):
    viewer.key("Control+Enter")
    if asks:  # whether the model shall go through the whole volume
        viewer.page.wait_for_selector(".message:has-text('are not named')")
        viewer.settle()
        viewer.key("Control+Enter")
    viewer.page.wait_for_selector(f"#image-name:text-is('{name}')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()


def test_both_stages_from_the_first_case_to_the_command(viewer, server, made):
    assert viewer.text("#image-name") == "a" and viewer.text("#case-count") == "1 of 3"
    assert viewer.text("[data-cell='0'] .slice") == f"{SLICE} / 47"
    assert viewer.page.locator(".object .name").evaluate_all("all => all.map((one) => one.value)") == [
        "liver",
        "spleen",
        "lesion",
    ]
    assert not viewer.page.locator("#propagate").is_visible()
    assert viewer.text("#ends-of").lower() == "first and last slice of liver"

    # the outline is completed by the lasso, and first and last slice are named
    viewer.key("l")
    viewer.draw(*(axial(viewer, y, x) for y, x in [(2, 2), (2, 40), (30, 40), (30, 2), (2, 2)]))
    viewer.key("Control+z")
    viewer.settle()
    assert (labels_of(server)[SLICE] == 1).sum() == HALF.sum()  # the model's cannot be undone
    assert viewer.page.locator("#undo").is_disabled()
    viewer.key("b")
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    np.testing.assert_array_equal(labels_of(server)[SLICE], FIRST[SLICE])
    viewer.key("PageDown", "PageDown", "[", "Shift+PageUp", "]")
    # the second object has ends of its own
    viewer.key("j")
    assert viewer.page.locator("#first").input_value() == "0"
    viewer.key("PageDown")
    viewer.draw(axial(viewer, 25, 36), axial(viewer, 45, 12))
    viewer.key("j", "j")
    assert [viewer.page.locator(f"#{end}").input_value() for end in ("first", "last")] == ["18", "28"]
    next_case(viewer, "b", asks=True)
    revised = read(made.folder / "revised" / "a.nii.gz")
    np.testing.assert_array_equal(revised[SLICE] == 1, FIRST[SLICE])
    np.testing.assert_array_equal(revised[27] == 2, SECOND[27])
    assert [row for row in rows(made) if row[0].startswith("a")] == [
        ("a.nii.gz@20", "1", "18", "28"),
        ("a.nii.gz@27", "2", "", ""),
    ]
    person = {one.place: one.person for one in read_times(made.folder)}
    assert person["a", 1, "outline"] > 0 and person["a", 2, "outline"] > 0
    assert person["a", 1, "outline"] + person["a", 2, "outline"] < time.monotonic() - viewer.began

    # the second one is as it should be; the third is a volume
    next_case(viewer, "c", asks=True)
    assert viewer.text("#case-count") == "3 of 3" and viewer.page.locator("#propagate").is_visible()
    np.testing.assert_array_equal(labels_of(server), FIRST)
    viewer.key("j")
    viewer.key("b")
    viewer.draw(axial(viewer, 25, 36), axial(viewer, 45, 12))
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    viewer.key("Control+Enter")
    viewer.page.wait_for_selector("#finished-dialog[open]")
    np.testing.assert_array_equal(read(made.folder / "corrected" / "c.nii.gz"), FIRST + 2 * SECOND)
    assert "annotate rank" in viewer.text("#finished-command")


def test_a_volume_keeps_the_slices_that_were_named(viewer, server, queue, made):
    (scored,) = made.cases["c"].objects
    objects = [replace(scored, axis=0, first=18, last=23), replace(scored, label=2, name="spleen")]
    made.cases["c"] = replace(made.cases["c"], objects=objects)
    made.save()
    write_labels(made.mask("c"), FIRST * 0)
    made.cases["c"] = replace(made.cases["c"], mask_sha256=sha256_of(made.mask("c")))
    made.save()
    open_case(viewer, "c")
    assert ends(viewer) == ["18", "23"]
    viewer.key("j")
    assert ends(viewer) == ["0", "47"]  # of the second one none were named
    viewer.key("j", "j")
    assert ends(viewer) == ["18", "23"]
    viewer.key("b")
    assert viewer.text("[data-cell='0'] .slice") == "23 / 47"
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('Done')")
    through = (labels_of(server) == 1).any(axis=(1, 2))
    assert np.flatnonzero(through).tolist() == list(range(18, 24))
    # widened by hand, and kept while another object is active
    viewer.key("PageUp", "PageUp", "]", "j")
    assert ends(viewer) == ["0", "47"]
    viewer.page.locator("#scope-all").click()  # also where another object is active
    viewer.page.locator("#propagate").click()
    viewer.page.locator("#propagate").blur()
    viewer.key("j", "j")
    viewer.page.wait_for_selector("#progress-text:has-text('Done: 8 of 8')")
    through = (labels_of(server) == 1).any(axis=(1, 2))
    assert np.flatnonzero(through).tolist() == list(range(18, 26))
    assert ends(viewer) == ["18", "25"]
    viewer.page.locator("#scope-one").click()
    viewer.page.locator("#scope-one").blur()
    # a prompt along another axis has no slice of these
    viewer.key("Control+z")
    viewer.settle()
    viewer.key("2", "p")
    viewer.draw(viewer.at("coronal", 24, 15, 48, 48), viewer.at("coronal", 24, 15, 48, 48))
    viewer.settle()
    assert ends(viewer) == ["0", "47"]


def test_the_first_and_last_slice_are_asked_for_once(viewer, made):
    viewer.key("Control+Enter")
    viewer.page.wait_for_selector(".message:has-text('last slice of liver are not named')")
    assert not (made.folder / "revised").exists() and viewer.text("#image-name") == "a"
    next_case(viewer, "b")
    assert ("a.nii.gz@20", "1", "", "") in rows(made)


def test_the_list_says_which_of_a_patient_are_left_out(browser, serve, network, grouped, monkeypatch):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    viewer = Viewer(browser, serve(model=network, round=RoundQueue(grouped.folder, NAMES)).url)
    viewer.page.wait_for_selector("#round", state="visible")
    viewer.settle()
    assert viewer.text("#image-name") == "d" and viewer.text("#case-count") == "1 of 2, 2 left out"
    group = viewer.page.locator("#case optgroup")
    assert group.get_attribute("label") == "2 of the same patients, left out"
    assert group.locator("option").all_inner_texts() == ["c", "e"]
    next_case(viewer, "f")
    viewer.key("Control+Enter")
    viewer.page.wait_for_selector("#finished-dialog[open]")
    assert "(2 of the same patients are left out) are done. Go on with" in viewer.text("#finished-text")
    assert "annotate take" in viewer.text("#finished-command")
    viewer.context.close()


def test_another_image_and_back_to_the_round(viewer, server, made, file):
    viewer.open(file)
    assert not viewer.page.locator("#round").is_visible() and viewer.page.locator("#add-object").is_visible()
    viewer.page.reload()
    viewer.page.wait_for_selector("#image-name:has-text('balls')")
    viewer.key("Control+o")
    viewer.page.locator("#to-round").click()
    viewer.page.wait_for_selector("#image-name:text-is('a')")
    assert viewer.page.locator("#round").is_visible() and not viewer.page.locator("#add-object").is_visible()


def test_only_active_time_counts(browser, server, made):
    viewer = Viewer(browser, server.url, clock=True)
    viewer.page.wait_for_selector("#round", state="visible")
    viewer.page.wait_for_selector("#opener", state="hidden")
    # from here on time goes on as the test says, which begins after a pause
    viewer.page.clock.pause_at(1_000_000)
    viewer.page.mouse.move(300, 300)
    for wait in (10_000, 50_000, 61_000, 5_000, 400_000, 1_000):  # 66 of them are work
        viewer.page.clock.run_for(wait)
        viewer.page.mouse.move(300 + wait / 5000, 310)
    viewer.page.locator("#done").click()
    viewer.page.clock.run_for(50)
    viewer.page.wait_for_selector(".message:has-text('are not named')")
    with viewer.page.expect_response("**/page/round/done") as answer:
        viewer.page.locator("#done").click()
        viewer.page.clock.run_for(50)
    sent = answer.value.request.post_data_json["seconds"]
    assert set(sent) == {"1"} and sent["1"] == pytest.approx(66, abs=0.2)
    viewer.context.close()


def test_a_reload_keeps_the_case_and_its_time(viewer, server, made):
    viewer.page.on("dialog", lambda dialog: dialog.accept())
    viewer.page.locator("#case").select_option("b")
    viewer.page.wait_for_selector("#image-name:text-is('b')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.page.mouse.move(300, 300)
    viewer.page.wait_for_timeout(1500)
    viewer.page.mouse.move(300, 310)
    viewer.page.reload()
    viewer.page.wait_for_selector("#round", state="visible")
    viewer.settle()
    assert viewer.text("#image-name") == "b" and prompts_of(server) == []
    next_case(viewer, "c", asks=True)  # the one after it
    person = {one.place: one.person for one in read_times(made.folder)}
    assert person["b", 1, "outline"] > 1.4


def test_seconds_count_once_when_the_answer_was_lost(viewer, made):
    def lose(route):
        route.fetch()
        route.abort()

    viewer.page.route("**/page/round/done", lose)
    viewer.key("PageDown", "[", "Control+Enter")
    viewer.page.wait_for_selector(".message:has-text('does not answer')")
    viewer.page.unroute("**/page/round/done")
    viewer.errors.clear()  # of the lost answer
    (before,) = [one.person for one in read_times(made.folder) if one.place == ("a", 1, "outline")]
    viewer.page.wait_for_timeout(1000)
    with viewer.page.expect_request("**/page/round/done") as again:
        next_case(viewer, "b")
    (person,) = [one.person for one in read_times(made.folder) if one.place == ("a", 1, "outline")]
    assert person == pytest.approx(again.value.post_data_json["seconds"]["1"], abs=0.01)
    assert person >= before + 1


def open_case(viewer, name):
    viewer.page.locator("#case").select_option(name)
    viewer.page.wait_for_selector(f"#image-name:text-is('{name}')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.settle()


def ends(viewer) -> list[str]:
    viewer.frame()
    return [viewer.page.locator(f"#{end}").input_value() for end in ("first", "last")]


def test_ends_outlive_a_reload_and_another_case(viewer, made):
    asked = []

    def accept(dialog):
        asked.append(dialog.type)
        dialog.accept()

    viewer.page.on("dialog", accept)
    viewer.key("PageDown", "PageDown", "[", "Shift+PageUp", "]")
    assert ends(viewer) == ["18", "28"]
    viewer.page.reload()
    viewer.page.wait_for_selector("#round", state="visible")
    viewer.settle()
    assert asked == ["beforeunload"] and ends(viewer) == ["18", "28"]
    open_case(viewer, "b")
    assert asked == ["beforeunload", "confirm"] and ends(viewer) == ["0", "47"]
    open_case(viewer, "a")
    assert asked == ["beforeunload", "confirm"] and ends(viewer) == ["18", "28"]
    next_case(viewer, "b")
    assert ("a.nii.gz@20", "1", "18", "28") in rows(made)
    # those that were written are shown again, and nothing is left to be saved
    open_case(viewer, "a")
    viewer.page.reload()
    viewer.page.wait_for_selector("#round", state="visible")
    viewer.settle()
    assert asked == ["beforeunload", "confirm"] and ends(viewer) == ["18", "28"]


def test_a_number_that_is_being_typed_counts(viewer, made):
    for end, value in (("first", "12"), ("last", "31")):
        viewer.page.locator(f"#{end}").click(click_count=3)
        viewer.page.keyboard.type(value)
    next_case(viewer, "b")
    assert ("a.nii.gz@20", "1", "12", "31") in rows(made)


def test_a_key_that_is_held_finishes_one_case(viewer, made):
    viewer.key("PageDown", "PageDown", "[")
    viewer.page.keyboard.down("Control")
    for _ in range(40):
        viewer.page.keyboard.down("Enter")  # from the second one on, a repetition
        viewer.page.wait_for_timeout(50)
    viewer.page.keyboard.up("Enter")
    viewer.page.keyboard.up("Control")
    viewer.page.wait_for_selector("#image-name:text-is('b')")
    viewer.settle()
    assert [file.name for file in (made.folder / "revised").iterdir()] == ["a.nii.gz"]


def test_a_volume_is_finished_once_it_is_propagated(viewer, made, monkeypatch):
    monkeypatch.setattr(RegionEngine, "delay", 1.0)
    open_case(viewer, "c")
    viewer.key("j", "b")
    viewer.draw(axial(viewer, 25, 36), axial(viewer, 45, 12))
    viewer.key("Enter")
    viewer.page.wait_for_selector("#progress-text:has-text('of 48 slices')")
    assert viewer.page.locator("#done").is_disabled()
    viewer.key("Control+Enter")
    assert "still being propagated" in viewer.message() and not (made.folder / "corrected").exists()
    viewer.key("Escape")
    viewer.page.wait_for_selector("#progress.ended")
    assert viewer.page.locator("#done").is_enabled()


def test_a_case_is_kept_open(viewer):
    viewer.key("b")
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.page.once("dialog", lambda dialog: dialog.dismiss())
    viewer.page.locator("#case").select_option("b")
    viewer.page.wait_for_function("() => document.getElementById('case').value === 'a'")
    assert viewer.text("#image-name") == "a"


def test_the_masks_of_a_round_are_not_packed_after_each_change(viewer):
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.key("b")
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))
    viewer.page.wait_for_timeout(2500)
    assert any(url.endswith("/page/prompts") for url in asked)  # sent
    assert asked.count(f"{viewer.url}/page/prompts") == 1  # and not fetched


def test_an_image_without_an_object(viewer, made):
    viewer.page.once("dialog", lambda dialog: dialog.dismiss())
    viewer.page.locator("#nothing").click()
    assert not (made.folder / "nothing").exists()
    viewer.page.once("dialog", lambda dialog: dialog.accept())
    viewer.page.locator("#nothing").click()
    viewer.page.wait_for_selector("#image-name:text-is('b')")
    assert not read(made.folder / "nothing" / "a.nii.gz").any()


def test_a_case_that_cannot_be_read_is_left_out_and_all_are_listed(browser, server, made, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}_0000.nii.gz").rename(tmp_path / f"away_{name}")
    viewer = Viewer(browser, server.url)
    viewer.page.wait_for_selector("#round-cases", state="visible")
    assert "a_0000.nii.gz was changed or removed" in viewer.message()
    (tmp_path / "away_c").rename(tmp_path / "c_0000.nii.gz")
    listed = viewer.page.locator("#round-cases button")
    assert [text.split("\n")[0] for text in listed.all_inner_texts()] == ["a", "b", "c"]
    listed.nth(2).click()
    viewer.page.wait_for_selector("#image-name:text-is('c')")
    viewer.page.wait_for_selector("#opener", state="hidden")
    viewer.context.close()
