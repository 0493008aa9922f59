"""A round's queue over HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.times import read_times
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, Progress
from nnunetv2_sam2_3dmed.interactive import session as session_module
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.server import page_sessions
from nnunetv2_sam2_3dmed.server.page_labels import LabelMap
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from tests.server.page.round_of_phantoms import HALF, NAMES, SLICE, read, rows, write_labels
from tests.server.page_client import Client
from tests.server.page_phantom import FIRST, labels_of, session_of
from tests.server.region_engine import RegionEngine


def cases(client) -> list[tuple]:
    return [tuple(one.values()) for one in client.ok("GET", "round")["round"]["cases"]]


def done(case, stage, seconds=None, extents=None, sitting=None) -> dict:
    """Request of the page for a case that is done."""
    return {"case": case, "stage": stage, "seconds": seconds or {}, "extents": extents or {}, "sitting": sitting}


def test_without_a_round(serve):
    client = Client(serve().url)
    assert client.ok("GET", "round") == {"round": None}
    assert "--round" in client.refused("POST", "round/open", json={})
    assert "no image yet" in client.refused("POST", "round/done", json=done("a", "outline"))


def test_cases_come_one_by_one(serve, queue, made):
    server = serve(round=queue)
    client, other = Client(server.url), Client(server.url)
    answer = client.ok("POST", "round/open", json={})
    described = answer["image"]["round"]
    assert answer["image"]["name"] == "a" and described["stage"] == "outline" and described["axis"] == 0
    assert described["objects"] == [{"id": 1, "slice": SLICE}, {"id": 2, "slice": None}]
    # all labels of the dataset are listed, by their names; none is added
    assert [(one["id"], one["name"], one["started"]) for one in answer["state"]["objects"]] == [
        (1, "liver", True),
        (2, "spleen", False),
        (5, "lesion", False),
    ]
    assert "labels of its dataset" in client.refused("POST", "objects", json={})
    assert not answer["state"]["can_undo"]
    view = answer["image"]["views"][0]
    assert (client.plane("labels", view, SLICE) == 1).sum() == HALF.sum()
    # another page gets another case
    assert other.ok("POST", "round/open", json={})["image"]["name"] == "b"
    assert cases(client) == [
        ("a", "outline", False, False, True),
        ("b", "outline", False, True, True),
        ("c", "volume", False, False, True),
    ]
    assert "is open in another page" in client.refused("POST", "round/open", json={"case": "b"})
    assert "no case 'd'" in client.refused("POST", "round/open", json={"case": "d"})
    # a mistake writes nothing
    wrong = done("a", "outline", {"1": 2.5}, {"1": [30, 40]})
    assert "liver goes from slice 30 to 40, but its mask" in client.refused("POST", "round/done", json=wrong)
    assert "no label" in client.refused("POST", "round/done", json=done("a", "outline", {"7": 1.0}))
    client.refused("POST", "round/done", json=done("a", "outline", {"1": -1.0}))
    assert "that the model has outlined" in client.refused(
        "POST",
        "prompts",
        json={"kind": "point", "object": 1, "axis": 1, "index": 9, "label": 1, "points": [[3.0, 3.0]]},
    )
    assert not (made.folder / "revised").exists()
    assert client.ok("POST", "round/done", json=done("a", "outline", {"1": 2.5}, {"1": [10, 30]})) == {"left": 2}
    np.testing.assert_array_equal(read(made.folder / "revised" / "a.nii.gz")[SLICE], HALF)
    assert ("a.nii.gz@20", "1", "10", "30") in rows(made)
    # the spleen, of which nothing is outlined, is no row any more
    assert not any(row[:2] == ("a.nii.gz@20", "2") for row in rows(made))
    opened = client.ok("POST", "round/open", json={})["image"]
    largest = int(FIRST.sum(axis=(1, 2)).argmax())
    assert opened["name"] == "c" and opened["round"]["objects"] == [{"id": 1, "slice": largest}]
    assert largest != np.flatnonzero(FIRST.any(axis=(1, 2)))[0]
    # its answer may have been lost: what the page still shows is not what is open
    for shown in (done("a", "outline"), done("c", "outline")):
        assert "c is open here by now" in client.refused("POST", "round/done", json=shown)
    assert not (made.folder / "corrected").exists()
    assert client.ok("POST", "round/done", json=done("c", "volume", {"1": 4.0})) == {"left": 1}
    # while another page has a case, the command would leave it out
    finished = client.ok("POST", "round/open", json={})["finished"]
    assert finished == {"name": "lesions", "command": None, "elsewhere": ["b"], "others": 0}
    assert other.ok("POST", "round/done", json=done("b", "outline")) == {"left": 0}
    finished = client.ok("POST", "round/open", json={})["finished"]
    assert "annotate rank -d Dataset009_Phantom" in finished["command"] and finished["elsewhere"] == []
    person = {one.place: one.person for one in read_times(made.folder)}
    assert person["a", 1, "outline"] == 2.5 and person["c", 1, "volume"] == 4.0
    assert "is no case of the round" in done_after_another(client, made)


def test_seconds_of_a_sitting_that_is_sent_again_count_once(serve, queue, made):
    server = serve(round=queue)
    client, other = Client(server.url), Client(server.url)
    client.ok("POST", "round/open", json={"case": "c"})
    # the first answer was lost, and the person went on until it was sent again; then there is another sitting
    for sitting, seconds in ((7, {"1": 4.0}), (7, {"1": 5.5, "2": 1.0}), (8, {"1": 3.0}), (None, {"1": 0.5})):
        client.ok("POST", "round/done", json=done("c", "volume", seconds, sitting=sitting))
    # another one was lost, after which the person, or another page, had other cases open
    client.ok("POST", "round/done", json=done("c", "volume", {"1": 2.0}, sitting=9))
    client.ok("POST", "round/open", json={"case": "a"})
    other.ok("POST", "round/open", json={"case": "c"})
    other.ok("POST", "round/done", json=done("c", "volume", {"1": 7.0}, sitting=10))
    other.ok("POST", "round/open", json={"case": "b"})
    client.ok("POST", "round/open", json={"case": "c"})
    client.ok("POST", "round/done", json=done("c", "volume", {"1": 2.25}, sitting=9))
    person = {one.label: one.person for one in read_times(made.folder)}
    assert person == {1: 5.5 + 3.0 + 0.5 + 7.0 + 2.25, 2: 1.0}


def test_the_machines_time_is_that_of_prompts_and_of_propagations(serve, network, queue, made, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(page_sessions, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    predict = InteractiveSession.predict_slice

    def slow_predict(*given):
        now[0] += 2.0
        return predict(*given)

    def slow_propagation(self, *_, **__):
        for done in range(1, 5):
            now[0] += 0.5
            yield Progress(done, 4, 0, SLICE, (1, 2))

    monkeypatch.setattr(InteractiveSession, "predict_slice", slow_predict)
    monkeypatch.setattr(InteractiveSession, "propagation", slow_propagation)
    monkeypatch.setattr(LabelMap, "refresh_slice", lambda *_: None)  # would ask for slices again
    client = Client(serve(model=network, round=queue).url)
    client.ok("POST", "round/open", json={"case": "c"})
    client.prompt("box", [(13, 3), (41, 27)], index=22, number=1)
    client.prompt("box", [(11, 25), (36, 45)], index=25, number=2)
    client.ok("POST", "propagation", json={"objects": [1, 2]})
    client.wait()
    assert now[0] == 2 * 2.0 + 4 * 0.5
    client.ok("POST", "round/done", json=done("c", "volume", {"1": 9.0}))
    machine = {one.label: one.machine for one in read_times(made.folder)}
    assert machine == {1: 3.0, 2: 3.0}
    client.ok("POST", "round/done", json=done("c", "volume", {"1": 1.0}))  # nothing was asked of the model since then
    assert {one.label: one.machine for one in read_times(made.folder)} == machine


def done_after_another(client, made) -> str:
    client.open(made.folder.parent / "b_0000.nii.gz")
    return client.refused("POST", "round/done", json=done("b", "outline"))


def test_what_is_loaded_has_labels_of_the_dataset(serve, queue, tmp_path):
    client = Client(serve(round=queue).url)
    client.ok("POST", "round/open", json={"case": "c"})
    labels = np.zeros(FIRST.shape, np.uint8)
    labels[SLICE] = 4 * FIRST[SLICE]
    sent = client.send(write_labels(tmp_path / "other.nii.gz", labels))
    assert "object 4 is no label" in client.refused("POST", "segmentation", json=sent)
    # a label that is removed stays in the list
    state = client.ok("DELETE", "objects/1")["state"]
    assert [one["id"] for one in state["objects"]] == [1, 2, 5] and not state["objects"][0]["started"]


def test_another_image_than_the_models(serve, queue, tmp_path):
    client = Client(serve(round=queue).url)
    (tmp_path / "a_0000.nii.gz").write_bytes(b"other")
    assert "a_0000.nii.gz was changed" in client.refused("POST", "round/open", json={"case": "a"})
    # it does not keep the others from being worked on
    answer = client.ok("POST", "round/open", json={})
    assert answer["image"]["name"] == "b" and len(answer["notes"]) == 1
    assert answer["notes"][0].startswith("a was left out: ") and "a_0000.nii.gz was changed" in answer["notes"][0]
    client.ok("POST", "round/done", json=done("b", "outline"))
    assert client.ok("POST", "round/open", json={})["image"]["name"] == "c"
    client.ok("POST", "round/done", json=done("c", "volume"))
    answer = client.ok("POST", "round/open", json={})
    assert "annotate rank" in answer["finished"]["command"] and answer["notes"][0].startswith("a was left out")


def test_none_can_be_opened(serve, queue, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}_0000.nii.gz").unlink()
    client = Client(serve(round=queue).url)
    assert "a_0000.nii.gz was changed or removed" in client.refused("POST", "round/open", json={})


def test_it_goes_on_from_the_case_that_is_open(serve, queue):
    client = Client(serve(round=queue).url)
    # one that is left comes again after the last one
    for asked, name in (({"case": "b"}, "b"), ({}, "c"), ({}, "a"), ({}, "b")):
        answer = client.ok("POST", "round/open", json=asked)
        assert answer["image"]["name"] == name and answer["notes"] == []


def test_nothing_is_written_while_it_is_propagated(serve, queue, made, monkeypatch):
    client = Client(serve(round=queue).url)
    client.ok("POST", "round/open", json={"case": "c"})
    client.prompt("box", [(5, 5), (28, 27)], index=SLICE)
    client.ok("POST", "propagation", json={})
    assert "still being propagated" in client.refused("POST", "round/done", json=done("c", "volume"))
    assert not (made.folder / "corrected").exists()
    client.ok("POST", "propagation/stop")
    client.ok("POST", "round/done", json=done("c", "volume"))
    assert (made.folder / "corrected" / "c.nii.gz").is_file()


@pytest.mark.parametrize("failing", ["table", "starts"])
def test_a_case_that_cannot_be_opened_leaves_the_one_before(serve, queue, made, monkeypatch, failing):
    server = serve(round=queue)
    client = Client(server.url)
    before = client.ok("POST", "round/open", json={"case": "a"})
    table = made.folder / "outlines.csv"
    if failing == "table":
        table.write_text(table.read_text("utf-8").replace("b.nii.gz@20,1", "b.nii.gz@20,organ"), "utf-8")
        message = "has the object 'organ' in the row of outlines/b.nii.gz@20"
    else:
        message = "not these masks"

        def refuse(*_):
            raise UserError(f"{message}.")

        monkeypatch.setattr(PageSession, "load_starts", refuse)
    assert message in client.refused("POST", "round/open", json={"case": "b"})
    assert client.ok("GET", "session") == {key: before[key] for key in ("image", "state")}
    assert server.state.sessions.open_sessions == 1
    assert Client(server.url).ok("GET", "round")["round"]["cases"][0]["taken"]
    client.ok("POST", "round/done", json=done("a", "outline", {"1": 2.0}, {"1": [10, 30]}))
    np.testing.assert_array_equal(read(made.folder / "revised" / "a.nii.gz")[SLICE], HALF)
    # after a reload, the page has the ends that were written
    assert client.ok("GET", "session")["image"]["round"]["extents"] == {"1": {"axis": 0, "first": 10, "last": 30}}


def test_a_case_that_a_command_has_changed_meanwhile(serve, queue, made):
    client = Client(serve(round=queue).url)
    client.ok("POST", "round/open", json={"case": "a"})
    made.cases["a"] = replace(made.cases["c"], image=made.outlines["a"].image)
    made.save()
    sentence = client.refused("POST", "round/done", json=done("a", "outline", extents={"1": [10, 30]}))
    assert "a was segmented again since it was opened" in sentence
    assert not (made.folder / "revised").exists() and ("a.nii.gz@20", "1", "", "") in rows(made)


def test_memory_of_a_cases_masks_is_bounded(serve, queue, made, tmp_path):
    voxels = FIRST.size
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "c_0000.nii.gz")))
    labels = FIRST * 1
    labels[0, 0, :4] = (2, 2, 5, 5)
    write_labels(made.folder / "corrected" / "c.nii.gz", labels)
    largest = max(image.nbytes, 3 * voxels)
    client = Client(serve(round=queue, largest_image_bytes=largest).url)
    client.ok("POST", "round/open", json={"case": "c"})
    many = RoundQueue(made.folder, {number: f"part {number}" for number in range(1, 30)})
    labels[0, 0, :29] = np.arange(1, 30)
    write_labels(made.folder / "corrected" / "c.nii.gz", labels)
    assert 29 * voxels > largest
    client = Client(serve(round=many, largest_image_bytes=largest).url)
    assert "the masks of c take" in client.refused("POST", "round/open", json={"case": "c"})


def test_files_of_another_image_are_deleted(serve, queue, tmp_path):
    server = serve(round=queue)
    client = Client(server.url)
    client.open(tmp_path / "b_0000.nii.gz")
    place = server.state.leases._leases[client.http.headers["X-Page-Session"]].holding
    assert list(Path(place._files.name).iterdir())
    client.ok("POST", "round/open", json={})
    assert not list(Path(place._files.name).iterdir())


def test_only_the_chosen_one_of_a_patient_comes(serve, grouped):
    client = Client(serve(round=RoundQueue(grouped.folder, NAMES)).url)
    assert [(one[0], one[-1]) for one in cases(client)] == [("d", True), ("c", False), ("e", False), ("f", True)]
    assert client.ok("POST", "round/open", json={})["image"]["name"] == "d"
    assert client.ok("POST", "round/done", json=done("d", "volume")) == {"left": 1}
    assert client.ok("POST", "round/open", json={})["image"]["name"] == "f"
    client.ok("POST", "round/done", json=done("f", "volume"))
    finished = client.ok("POST", "round/open", json={})["finished"]
    assert "annotate take" in finished["command"] and (finished["elsewhere"], finished["others"]) == ([], 2)
    # another one can be opened by its name, and is finished as any
    assert client.ok("POST", "round/open", json={"case": "c"})["image"]["name"] == "c"
    client.ok("POST", "round/done", json=done("c", "volume"))
    assert client.ok("POST", "round/open", json={})["finished"]["others"] == 1


def test_all_objects_of_a_volume_are_propagated_between_their_own_slices(serve, network, queue, made, monkeypatch):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    (scored,) = made.cases["c"].objects
    objects = [replace(scored, axis=0, first=18, last=23), replace(scored, label=2, name="spleen")]
    made.cases["c"] = replace(made.cases["c"], objects=objects)
    made.save()
    server = serve(model=network, round=queue)
    client = Client(server.url)
    image = client.ok("POST", "round/open", json={"case": "c"})["image"]
    assert image["round"]["extents"] == {"1": {"axis": 0, "first": 18, "last": 23}}
    session = session_of(server)
    reached = []

    def propagation(objects, axis, slices, direction, nearest_first):
        reached.append((list(objects), axis, slices))
        return iter(())

    monkeypatch.setattr(session, "propagation", propagation)
    for number in (1, 2):
        client.prompt("box", [(5, 5), (28, 27)], index=20, number=number)
    named = {"axis": 0, "first": 18, "last": 23}
    client.ok("POST", "propagation", json={"within": {"1": named}})
    assert reached == [([1], 0, (18, 23)), ([2], None, None)]
    client.ok("POST", "propagation", json={"axis": 0, "slices": [5, 40], "within": {"1": named}})
    assert reached[2:] == [([1], 0, (18, 23)), ([2], 0, (5, 40))]
    # objects of the same slices go together; along an axis without a prompt there are none
    client.ok("POST", "propagation", json={"within": {"1": named, "2": named}})
    client.ok("POST", "propagation", json={"within": {"1": {**named, "axis": 1}}})
    assert reached[4:] == [([1, 2], 0, (18, 23)), ([1, 2], None, None)]


def test_each_part_of_a_propagation_is_run_to_its_end(serve, network, queue, made, monkeypatch):
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    (scored,) = made.cases["c"].objects
    objects = [
        replace(scored, axis=0, first=18, last=23),
        replace(scored, label=2, name="spleen", axis=0, first=20, last=31),
    ]
    mask = write_labels(made.mask("c"), FIRST * 0)
    made.cases["c"] = replace(made.cases["c"], objects=objects, mask_sha256=sha256_of(mask))
    made.save()
    server = serve(model=network, round=queue)
    client = Client(server.url)
    image = client.ok("POST", "round/open", json={"case": "c"})["image"]
    # the plane is turned as in the browser: high x at the top
    client.prompt("box", [(13, 3), (41, 27)], index=22, number=1)
    client.prompt("box", [(11, 25), (36, 45)], index=25, number=2)
    client.ok("POST", "propagation", json={"within": image["round"]["extents"]})
    progress = client.wait()
    assert progress["error"] is None and progress["done"] == progress["total"]
    labels = labels_of(server)
    assert [np.flatnonzero((labels == k).any(axis=(1, 2)))[[0, -1]].tolist() for k in (1, 2)] == [[18, 23], [20, 31]]


def test_an_image_without_an_object_is_left(serve, queue, made):
    client = Client(serve(round=queue).url)
    client.ok("POST", "round/open", json={"case": "a"})
    assert client.ok("POST", "round/done", json=done("a", "outline", {"1": 3.0}) | {"empty": True}) == {"left": 2}
    assert not read(made.folder / "nothing" / "a.nii.gz").any()
    assert not [row for row in rows(made) if row[0].startswith("a")]
    assert ("a", "outline", True, False, True) in cases(client)


def test_two_pages_at_once_get_different_cases(serve, queue, monkeypatch):
    server = serve(round=queue)
    clients = [Client(server.url) for _ in range(2)]
    read, both = RoundQueue.read, threading.Barrier(2)

    def together(*given, **options):
        both.wait(20)  # neither has its image before the other has chosen
        return read(*given, **options)

    monkeypatch.setattr(RoundQueue, "read", together)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda client: client.ok("POST", "round/open", json={}), clients))
    assert {answer["image"]["name"] for answer in answers} == {"a", "b"}
