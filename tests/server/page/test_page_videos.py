"""Videos in the page's HTTP interface, beside a session in this process with the same prompts."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pycocotools import mask as run_lengths

from nnunetv2_sam2_3dmed.server import page_videos
from nnunetv2_sam2_3dmed.video import VideoSession, open_video
from tests.server.page_client import Client
from tests.server.video_files import COLUMNS, COUNT, ROWS, centre, frame, number_of, write_frames
from tests.video.files import write_video

BOX = [(5, 4), (28, 27)]


@pytest.fixture
def frames(tmp_path) -> Path:
    return write_frames(tmp_path / "ball")


@pytest.fixture
def video(tmp_path) -> Path:
    write_video(tmp_path / "ball 1.mp4", frames=[frame(index) for index in range(COUNT)])
    return tmp_path / "ball 1.mp4"


@pytest.fixture
def beside(model) -> VideoSession:
    """A session in this process, to be given the same prompts; it encodes frames one by one, as a server on a CPU."""
    session = VideoSession(model, device="cpu", precision="float32")
    session._network.slices_at_once = 1
    return session


def labels_of(client: Client) -> np.ndarray:
    view = client.ok("GET", "session")["image"]["views"][0]
    return np.array([client.plane("labels", view, index) for index in range(view["depth"])])


def test_frames_are_those_of_the_file(client, video):
    image = client.open(video)["image"]
    assert image["name"] == "ball 1.mp4" and image["shape"] == [COUNT, ROWS, COLUMNS]
    assert image["video"]["rate"] == 25 and image["video"]["timed"]
    assert image["video"]["times"] == pytest.approx([index / 25 for index in range(COUNT)])
    for index in (0, 9, 4, COUNT - 1):
        colours = client.frame(index)
        assert colours.shape == (ROWS, COLUMNS, 3) and number_of(colours) == index
    assert "does not exist" in client.refused("POST", "prompts", json=prompt(COUNT))
    assert "does not exist" in client.refused("GET", f"frames/{COUNT}")
    assert "has frames and no slices" in client.refused("GET", "slices/0/0")
    assert "no surface" in client.refused("GET", "surface/1")
    assert "has one, 0" in client.refused("GET", "labels/1/0")


def prompt(index: int) -> dict:
    return {"kind": "point", "object": 1, "axis": 0, "index": index, "label": 1, "points": [[3.0, 3.0]]}


def test_prompts_on_two_frames_give_the_masks_of_a_session(client, beside, frames):
    client.open(*sorted(frames.iterdir()))
    client.prompt("box", BOX, index=3)
    client.prompt("point", [centre(9)], index=9)
    client.prompt("point", [(2, 2)], index=9, label=0)
    client.prompt(
        "scribble", [(40, c) for c in range(5, 30)], index=6, number=client.ok("POST", "objects", json={})["object"]
    )
    client.ok("POST", "propagation", json={})
    progress = client.wait()
    assert progress["done"] == progress["total"] > 0 and progress["error"] is None

    beside.set_video(frames)
    beside.add_box((3, *BOX[0]), (3, *BOX[1]))
    beside.predict_slice()
    beside.add_points([(9, *centre(9))])
    beside.predict_slice()
    beside.add_points([(9, 2, 2)], 0)
    beside.predict_slice()
    beside.add_scribble([(6, 40, c) for c in range(5, 30)], 1, 2)
    beside.predict_slice()
    beside.propagate()
    expected = beside.labels()
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(labels_of(client), expected)


def test_labels_follow_steps_locks_and_removals(client, frames):
    view = client.open(*sorted(frames.iterdir()))["image"]["views"][0]
    client.prompt("lasso", [(2, 2), (2, 20), (20, 20), (20, 2)], index=5)
    client.ok("POST", "objects", json={})
    client.prompt("lasso", [(10, 10), (10, 30), (30, 30), (30, 10)], index=5, number=2)
    both = client.plane("labels", view, 5)
    locked = client.ok("PATCH", "objects/2", json={"protected": True})["state"]
    after = client.plane("labels", view, 5)
    # eleven pixels a side are of both
    assert ((both == 1).sum() - (after == 1).sum(), (after == 2).sum() - (both == 2).sum()) == (121, 121)
    assert locked["objects"][1]["protected"]
    client.ok("DELETE", "objects/1")
    np.testing.assert_array_equal(client.plane("labels", view, 5), np.where(after == 1, 0, after))
    client.ok("POST", "undo")
    np.testing.assert_array_equal(client.plane("labels", view, 5), after)
    assert "is locked" in client.refused("DELETE", "objects/2")
    client.ok("POST", "undo")
    assert set(np.unique(client.plane("labels", view, 5))) == {0, 1}
    client.ok("POST", "redo")
    np.testing.assert_array_equal(client.plane("labels", view, 5), after)


def test_labels_in_memory_are_bounded(client, frames, monkeypatch):
    client.open(*sorted(frames.iterdir()))
    client.prompt("box", BOX, index=3)
    expected = labels_of(client)
    shown = page_of(client).shown
    assert len(shown.labels._kept) == COUNT
    monkeypatch.setattr(page_videos, "MOST_LABEL_BYTES", 300)
    client.ok("PATCH", "objects/1", json={"protected": True})
    np.testing.assert_array_equal(labels_of(client), expected)
    kept = shown.labels._kept
    assert shown.labels._bytes == sum(map(len, kept.values())) and 1 <= len(kept) < COUNT


def page_of(client: Client):
    return client.server.state.leases._leases[client.http.headers["X-Page-Session"]].holding.page


# ---- files


@pytest.fixture
def segmented(client, video) -> np.ndarray:
    """The video is open, with two objects on some frames; their labels."""
    client.open(video)
    client.prompt("lasso", [(10, 10), (10, 30), (30, 30), (30, 10)], index=0)
    client.prompt("lasso", [(12, 12), (12, 40), (20, 40), (20, 12)], index=2)
    client.prompt(
        "lasso", [(5, 5), (5, 9), (9, 9), (9, 5)], index=2, number=client.ok("POST", "objects", json={})["object"]
    )
    labels = labels_of(client)
    assert set(np.unique(labels)) == {0, 1, 2}
    return labels


def save(client: Client, ending: str) -> tuple[str, bytes]:
    answer = client.ask("GET", "segmentation", params={"ending": ending})
    assert answer.status_code == 200, answer.text
    return answer.headers["content-disposition"].rpartition("'")[2], answer.content


def test_save_png_masks(client, segmented):
    name, content = save(client, ".zip")
    assert name == "ball_1_segmentation.zip"
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.namelist() == [f"ball_1_segmentation/{index:05d}.png" for index in range(COUNT)]
    pictures = [Image.open(archive.open(name)) for name in archive.namelist()]
    assert {picture.mode for picture in pictures} == {"P"}
    np.testing.assert_array_equal(np.array([np.asarray(picture) for picture in pictures]), segmented)


def test_save_png_masks_of_a_video_with_dots_in_its_name(client, video):
    dotted = video.with_name(f"polyp.2024-05-01{video.suffix}")
    dotted.write_bytes(video.read_bytes())
    client.open(dotted)
    name, content = save(client, ".zip")
    assert name == "polyp.2024-05-01_segmentation.zip"
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == COUNT


def test_save_a_label_map(client, segmented, tmp_path):
    np.testing.assert_array_equal(sitk.GetArrayFromImage(client.saved(tmp_path, ".nii.gz")), segmented)


def test_save_coco(client, segmented):
    content = json.loads(save(client, ".json")[1])
    found = np.zeros_like(segmented)
    for one in content["annotations"]:
        mask = run_lengths.decode({**one["segmentation"], "counts": one["segmentation"]["counts"].encode()})
        found[one["image_id"] - 1][mask > 0] = one["category_id"]
    np.testing.assert_array_equal(found, segmented)


def test_save_an_overlay(client, segmented, tmp_path):
    (tmp_path / "overlay.mp4").write_bytes(save(client, ".mp4")[1])
    overlay = open_video(tmp_path / "overlay.mp4")
    assert overlay.shape == (COUNT, ROWS, COLUMNS) and overlay.rate == pytest.approx(25)
    # where masks are, another colour; elsewhere, the video's, but for the loss of two codecs
    differs = np.abs(overlay.frame(2).astype(int) - frame(2)).max(axis=-1) > 60
    inside = segmented[2] > 0
    assert differs[inside].mean() > 0.9 and differs[~inside].mean() < 0.1


def test_save_dicom_seg(client, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    client.open(echo(tmp_path / "echo", "IM_1", "apical"))
    client.prompt("lasso", [(60, 80), (60, 180), (160, 180), (160, 80)], index=7)
    client.ok("PATCH", "objects/1", json={"name": "Left ventricle"})
    (tmp_path / "masks.dcm").write_bytes(save(client, ".dcm")[1])
    segmentation = highdicom.seg.segread(str(tmp_path / "masks.dcm"))
    # 101 pixels a side, on the eighth frame of the video
    assert segmentation.pixel_array.sum() == 101 * 101
    assert segmentation.SegmentSequence[0].SegmentLabel == "Left ventricle"
    source = segmentation.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedFrameNumber == 8


def test_other_formats_are_refused(client, segmented, serve, video):
    assert ".zip" in client.refused("GET", "segmentation", params={"ending": ".txt"})
    assert "DICOM" in client.refused("GET", "segmentation", params={"ending": ".dcm"})
    small = Client(serve(largest_image_bytes=COUNT * ROWS * COLUMNS - 1).url)
    small.open(video)
    assert "save PNG masks" in small.refused("GET", "segmentation", params={"ending": ".nii.gz"})
    assert save(small, ".zip")[1]


def test_prompts_are_saved_and_loaded(client, segmented, video, tmp_path):
    (tmp_path / "prompts.json").write_bytes(client.ask("GET", "prompts").content)
    client.open(video)
    assert not labels_of(client).any()
    client.ok("POST", "prompts/file", json=client.send(tmp_path / "prompts.json"))
    np.testing.assert_array_equal(labels_of(client), segmented)


def test_masks_are_a_start(client, segmented, video, tmp_path):
    file = tmp_path / "masks.nii.gz"
    file.write_bytes(save(client, ".nii.gz")[1])
    client.open(video)
    objects = client.ok("POST", "segmentation", json=client.send(file))["state"]["objects"]
    assert [(one["id"], one["started"]) for one in objects] == [(1, True), (2, True)]
    np.testing.assert_array_equal(labels_of(client), segmented)


# ---- what is a video


def echo(folder: Path, name: str, description: str) -> Path:
    """pydicom's echocardiogram of 30 frames, with another description."""
    data = pydicom.dcmread(str(pydicom.examples.get_path("ybr_color")))
    data.SeriesDescription = description
    folder.mkdir(exist_ok=True)
    data.save_as(folder / name)
    return folder / name


def test_the_folder_of_the_server(serve, frames, video, tmp_path):
    folder = tmp_path / "folder"
    (folder / "clips").mkdir(parents=True)
    frames.rename(folder / "clips" / "ball")
    video.rename(folder / "clips" / "ball.mov")
    echo(folder / "echo", "IM_1", "apical")
    echo(folder / "echo", "IM_2", "parasternal")
    client = Client(serve(folder=folder).url)
    listed = client.ok("GET", "folder")["images"]
    assert [(one["path"], one["kind"]) for one in listed] == [
        ("clips/ball.mov", "video"),
        ("clips/ball", "video"),
        ("echo/IM_1", "video"),
        ("echo/IM_2", "video"),
    ]
    for one, count in zip(listed, (COUNT, COUNT, 30, 30)):
        image = client.ok("POST", "open", json={"path": one["path"]})["image"]
        assert image["shape"][0] == count and image["video"], one
    assert image["dicom"] and image["name"] == "IM_2"


def test_one_of_several_dicom_videos_is_chosen(client, tmp_path):
    sent = client.sent(echo(tmp_path / "echo", "IM_1", "apical"), echo(tmp_path / "echo", "IM_2", "parasternal"))
    several = client.ok("POST", "open", json=sent)["series"]
    assert [(one["description"], one["images"]) for one in several] == [("apical", 30), ("parasternal", 30)]
    image = client.ok("POST", "open", json={**sent, "series": several[1]["id"]})["image"]
    assert image["video"] and image["shape"] == [30, 240, 320]


def test_a_volume_after_a_video_and_back(client, video, tmp_path):
    server = client.server
    client.open(video)
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(4000, dtype=np.int16).reshape(10, 20, 20)), str(tmp_path / "a.nrrd")
    )
    assert client.open(tmp_path / "a.nrrd")["image"]["video"] is None
    assert "slices and no frames" in client.refused("GET", "frames/0")
    client.open(video)
    assert server.state.sessions.open_sessions == 1
    client.prompt("box", BOX, index=3)
    used = server.state.sessions.used_bytes
    client.ok("POST", "release")
    # a video's features are not kept
    assert server.state.sessions.open_sessions == 0 and server.state.sessions.used_bytes < used


def still(folder: Path, name: str) -> Path:
    """A slice of a CT."""
    data = pydicom.dcmread(str(pydicom.examples.get_path("ct")))
    data.save_as(folder / name)
    return folder / name


def test_videos_and_a_series_in_one_folder(serve, tmp_path):
    echo(tmp_path / "study", "IM_1", "apical")
    still(tmp_path / "study", "IM_2")
    client = Client(serve(folder=tmp_path).url)
    listed = client.ok("GET", "folder")["images"]
    assert [(one["path"], one["kind"]) for one in listed] == [("study/IM_1", "video"), ("study", "dicom")]
    assert listed[1]["bytes"] == (tmp_path / "study" / "IM_2").stat().st_size
    several = client.ok("POST", "open", json={"path": "study"})["series"]
    assert [(one["id"], one["images"], one["rows"]) for one in several] == [("IM_1", 30, 240), ("IM_2", 1, 128)]
    for one, shape in zip(several, ([30, 240, 320], [1, 128, 128])):
        image = client.ok("POST", "open", json={"path": "study", "series": one["id"]})["image"]
        assert image["shape"] == shape and bool(image["video"]) == (one["id"] == "IM_1")


def test_a_video_with_a_malformed_header_hides_no_other(serve, tmp_path):
    path = echo(tmp_path / "echo", "IM_1", "apical")
    data = path.read_bytes()
    tag = b"\x28\x00\x08\x00IS\x02\x00"  # Number of Frames (0028,0008)
    assert data.count(tag + b"30") == 1
    path.write_bytes(data.replace(tag + b"30", tag + b"xy"))
    echo(tmp_path / "echo", "IM_2", "parasternal")
    client = Client(serve(folder=tmp_path).url)
    listed = client.ok("GET", "folder")["images"]
    assert ("echo/IM_2", "video") in [(one["path"], one["kind"]) for one in listed]


# ---- from strangers


def deflated(folder: Path, name: str) -> Path:
    """A video that is compressed as a whole."""
    path = echo(folder, name, "apical")
    data = pydicom.dcmread(path)
    data.decompress()
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    return path


def test_a_deflated_dicom_file_is_never_unpacked(serve, tmp_path, monkeypatch):
    path = deflated(tmp_path / "echo", "IM_1")
    client = Client(serve(folder=tmp_path).url)
    unpacked = []
    monkeypatch.setattr(pydicom.filereader.zlib, "decompress", lambda *given: unpacked.append(given) or b"")
    assert [one["kind"] for one in client.ok("GET", "folder")["images"]] == ["dicom"]
    for asked in ({"path": "echo/IM_1"}, {"path": "echo"}, client.sent(path)):
        assert "compressed as a whole" in client.refused("POST", "open", json=asked)
    assert not unpacked


def test_dicom_files_that_links_bring_into_the_folder(serve, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (folder / "echo").mkdir(parents=True)
    echo(outside, "IM_1", "secret")
    (folder / "echo" / "IM_1").symlink_to(outside / "IM_1")
    client = Client(serve(folder=folder).url)
    assert client.ok("GET", "folder")["images"] == []
    assert "leads elsewhere" in client.refused("POST", "open", json={"path": "echo"})
    echo(folder / "echo", "IM_2", "apical")
    image = client.ok("POST", "open", json={"path": "echo"})["image"]
    assert image["video"] and image["shape"][0] == 30


def test_a_broken_video_leaves_what_was_open(client, video, tmp_path):
    before = client.open(video)
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert client.refused("POST", "open", json=client.sent(torn)).startswith("torn.mp4")
    assert client.ok("GET", "session") == before
    assert client.server.state.sessions.open_sessions == 1


def test_files_are_named_without_the_servers_folders(serve, frames):
    client = Client(serve(folder=frames.parent).url)
    client.ok("POST", "open", json={"path": "ball"})
    client.prompt("lasso", [(10, 10), (10, 30), (30, 30), (30, 10)], index=0)
    (frames / "005.png").write_bytes(b"damaged")
    for path in ("frames/5", "segmentation?ending=.mp4"):
        sentence = client.refused("GET", path)
        assert sentence.startswith("005.png cannot be read") and str(frames.parent) not in sentence
    assert client.frame(6).shape == (ROWS, COLUMNS, 3)
    shutil.rmtree(frames)
    sentence = client.refused("GET", "segmentation?ending=.mp4")
    assert sentence.startswith("there is no file or folder ball") and str(frames.parent) not in sentence


@pytest.mark.parametrize("start", [b"#EXTM3U\n#EXTINF:1,\n", b"ffconcat version 1.0\nfile secret.mp4\n"])
def test_no_playlist_opens_other_files(client, video, tmp_path, start):
    video.rename(tmp_path / "secret.mp4")
    playlist = tmp_path / "list.mp4"
    playlist.write_bytes(start + b"secret.mp4\n")
    assert "by its content" in client.refused("POST", "open", json=client.sent(playlist))
