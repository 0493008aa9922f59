"""``sam2_3dmed segment`` on videos, run as the command line does, with a checkpoint of random weights."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.interactive import load_model
from nnunetv2_sam2_3dmed.video import VideoSession, open_video
from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks
from tests.images.dicom_files import write_series
from tests.interactive.reference import SIZE, TINY, phantom, random_weights
from tests.video.files import write_video
from tests.video.test_session import COLUMNS, ROWS, Discs

COUNT = 6
BOX = "2,9,11:2,27,30"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{TINY}.pt"
    torch.save({"model": random_weights()}, path)
    return path


@pytest.fixture(scope="module")
def network(model):
    return load_model(model, SIZE)


@pytest.fixture
def run(model, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.session.load_model", lambda path, size: network)
    common = ["--model", str(model), "--image-size", str(SIZE), "-device", "cpu", "--precision", "float32"]
    return lambda *words: main(["segment", *map(str, words), *common])


@pytest.fixture
def video(tmp_path):
    frames = [next(iter(Discs().decode(index)))[1] for index in range(COUNT)]
    write_video(tmp_path / "discs.mkv", "ffv1", "bgr0", frames)
    return tmp_path / "discs.mkv"


def expected(network, path, *calls, slices=None):
    session = VideoSession(network, "cpu", "float32")
    session.set_video(path)
    for call in calls:
        call(session)
    session.propagate(slices=slices)
    return session.labels()


def add_box(session):
    session.add_box((2, 9, 11), (2, 27, 30))


def read_folder(folder):
    return np.stack([np.array(Image.open(folder / name)) for name in sorted(os.listdir(folder))])


def test_png_masks_and_a_picture(run, video, network, capsys):
    assert run(video, "-o", "masks", "--box", BOX, "--negative-point", "4,3,3") == 0
    masks = expected(network, video, add_box, lambda s: s.add_points([(4, 3, 3)], 0))
    np.testing.assert_array_equal(read_folder(video.with_name("masks")), masks)
    picture = np.array(Image.open("masks.png"))
    assert picture.shape[1] > 2 * picture.shape[0], "several frames beside each other"
    out = capsys.readouterr().out
    assert "6 frames of 40 x 48 pixels, 25 frames per second" in out
    assert f"1 objects, on {np.count_nonzero(masks.any(axis=(1, 2)))} of 6 frames" in out


def test_a_second_box_on_a_frame_is_refused(run, video, capsys):
    assert run(video, "-o", "masks", "--box", BOX, "--recist", "2,9,20:2,27,20") == 2
    assert "recist 2,9,20:2,27,20 is a second box of object 1 on slice 2" in capsys.readouterr().err
    assert not video.with_name("masks").exists()


@pytest.mark.parametrize("name", ["overlay.mp4", "masks.json", "masks.nii.gz"])
def test_other_kinds_of_results(run, video, network, name):
    assert run(video, "-o", name, "--box", BOX, "--slices", 1, 4, "--no-preview") == 0
    masks = expected(network, video, add_box, slices=(1, 4))
    assert masks[1:5].any() and not masks[[0, 5]].any()
    if name.endswith(".nii.gz"):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(name)), masks)
    elif name.endswith(".json"):
        from pycocotools.coco import COCO

        coco = COCO(name)
        areas = {a["image_id"] - 1: a["area"] for a in coco.loadAnns(coco.getAnnIds())}
        assert areas == {k: (masks[k] > 0).sum() for k in range(6) if masks[k].any()}
    else:
        overlay = open_video(name)
        assert overlay.shape == (6, ROWS, COLUMNS) and overlay.rate == pytest.approx(25)
    assert not os.path.exists(name.replace(".nii.gz", "").split(".")[0] + ".png")


def test_dicom_in_and_dicom_seg_out(run, network, tmp_path):
    from pydicom import examples

    hd = pytest.importorskip("highdicom")
    source = str(examples.get_path("ybr_color"))
    box = ((0, 60, 90), (0, 150, 190))
    assert run(source, "-o", "lv.dcm", "--box", "0,60,90:0,150,190", "--slices", 0, 3, "--no-preview") == 0
    masks = expected(network, source, lambda s: s.add_box(*box), slices=(0, 3))
    seg = hd.seg.segread("lv.dcm")
    ((_, _, uid),) = seg.get_source_image_uids()
    found = seg.get_pixels_by_source_frame(uid, [1, 2, 3, 4, 30], assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(found[..., 0], masks[[0, 1, 2, 3, 29]])


def test_masks_as_prompts(run, video, network, tmp_path):
    given = np.zeros((COUNT, ROWS, COLUMNS), dtype=np.uint8)
    for index in range(COUNT):
        given[index, 10:20, 10 : 20 + index] = 1  # largest on the last frame
    write_png_masks(tmp_path / "given", iter(given))
    sitk.WriteImage(sitk.GetImageFromArray(given), "given.nii.gz")
    for where, frame in (
        ("given", 5),
        ("given@3", 3),
        ("given.nii.gz@2", 2),
        ("given/00001.png@0", 0),
        ("given/00001.png@4", 4),
    ):
        assert run(video, "-o", "masks.nii.gz", "--mask", where, "--no-preview") == 0
        own = given[1] if ".png" in where else given[frame]
        masks = expected(network, video, lambda s, own=own, frame=frame: s.add_mask(own, frame))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage("masks.nii.gz")), masks)


def test_results_of_a_table_are_named_after_their_videos(run, video, tmp_path):
    (tmp_path / "prompts.csv").write_text(f'image,prompt,where\ndiscs.mkv,box,"{BOX}"\n')
    assert run("--batch", "prompts.csv", "-o", "out", "--format", ".json", "--no-preview") == 0
    assert os.listdir("out") == ["discs.json"]


def test_nifti_is_a_video_if_it_is_said(run, network, tmp_path):
    frames = np.stack([next(iter(Discs().decode(index)))[1][..., 0] for index in range(COUNT)])
    sitk.WriteImage(sitk.GetImageFromArray(frames), "sequence.nii.gz")
    assert run("sequence.nii.gz", "-o", "masks.nii.gz", "--video", "--box", BOX) == 0
    masks = expected(network, "sequence.nii.gz", add_box)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage("masks.nii.gz")), masks)


def test_in_a_table_the_option_is_for_sequences_alone(run, video, network, tmp_path):
    """A DICOM series in the same table stays a volume; that of ``segment`` alone is refused."""
    (tmp_path / "series").mkdir()
    write_series(tmp_path / "series", phantom().astype(np.int16))
    frames = np.stack([next(iter(Discs().decode(index)))[1][..., 0] for index in range(COUNT)])
    sitk.WriteImage(sitk.GetImageFromArray(frames), "sequence.nii.gz")
    lines = ["image,prompt,where,output", f'sequence.nii.gz,box,"{BOX}",masks', 'series,box,"3,10,12:3,30,33",a.nii.gz']
    (tmp_path / "prompts.csv").write_text("\n".join(lines))
    assert run("--batch", "prompts.csv", "-o", ".", "--video", "--no-preview") == 0
    np.testing.assert_array_equal(read_folder(tmp_path / "masks"), expected(network, "sequence.nii.gz", add_box))
    assert sitk.GetArrayFromImage(sitk.ReadImage("a.nii.gz")).shape == phantom().shape
    assert run("series", "-o", "b.nii.gz", "--video", "--box", "3,10,12:3,30,33") == 2


def test_a_table_of_videos_and_volumes(run, video, network, tmp_path, capsys):
    made = sitk.GetImageFromArray(phantom())
    made.SetSpacing((0.5, 0.8, 3.0))
    sitk.WriteImage(made, "volume.nii.gz")
    lines = [
        "image,prompt,where,object,output",
        f'discs.mkv,box,"{BOX}",1,masks',
        'discs.mkv,point,"3,30,40",2,masks',
        'nothing.mp4,point,"0,1,1",1,',
        'volume.nii.gz,box,"3,10,12:3,30,33",1,volume_mask.nii.gz',
    ]
    (tmp_path / "prompts.csv").write_text("\n".join(lines))
    assert run("--batch", "prompts.csv", "-o", ".") == 2
    masks = expected(network, video, add_box, lambda s: s.add_points([(3, 30, 40)], object_id=2))
    np.testing.assert_array_equal(read_folder(tmp_path / "masks"), masks)
    assert sitk.GetArrayFromImage(sitk.ReadImage("volume_mask.nii.gz")).any()
    assert "there is no file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "a.mp4", "--box", "6,9,11:6,27,30"], "frame 6 does not exist: discs.mkv has 6 frames, 0 to 5"),
        (
            ["-o", "a.mp4", "--box", BOX, "--slices", "3", "9"],
            "goes from 3 to 9, but the first must not be behind the last, and there are 0 to 5",
        ),
        (["-o", "a.mp4", "--box", BOX, "--unit", "mm"], "of a video must be voxel: frame,row,column"),
        (["-o", "a.mp4", "--box", BOX, "--axis", "1"], "a video has one, 0"),
        (["-o", "a.mp4", "--box", BOX, "--window", "abdomen"], "frames of a video are shown as they are"),
        (["-o", "a.gif", "--box", BOX], "must end in .mp4"),
        (["-o", "a.dcm", "--box", BOX], "discs.mkv is no DICOM file"),
        (["-o", "full", "--box", BOX], "is there already"),
        (["-o", "discs.mkv", "--box", BOX], "is the video itself"),
        (["-o", "a.mp4", "--mask", "nothing.png"], "there is no mask nothing.png"),
        (["-o", "a.mp4", "--mask", "small.png@0"], "the mask is 3 x 3"),
        (
            ["-o", "a.mp4", "--mask", "small.png"],
            "small.png is of one frame: say which, counted from 0, as in small.png@0",
        ),
    ],
)
def test_mistakes(run, video, tmp_path, capsys, words, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").write_bytes(b"earlier")
    (tmp_path / "a.mp4").write_bytes(b"an earlier result")
    Image.fromarray(np.ones((3, 3), dtype=np.uint8)).save("small.png")
    size = video.stat().st_size
    assert run(video, *words) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert (tmp_path / "a.mp4").read_bytes() == b"an earlier result"
    assert (tmp_path / "full" / "00000.png").read_bytes() == b"earlier" and video.stat().st_size == size
