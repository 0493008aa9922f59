"""Videos with masks become cases of nnU-Net: pixels, labels, channels, and what happens between the cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.sources import sources_of
from nnunetv2_sam2_3dmed.video import conversion, open_video
from nnunetv2_sam2_3dmed.video.cases import VideoCase
from nnunetv2_sam2_3dmed.video.conversion import case_names, convert_videos, is_colour
from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks
from tests.video.files import write_video

COUNT, ROWS, COLUMNS = 6, 20, 24


def pixels(colour: bool, seed: int = 0) -> np.ndarray:
    """Noise, (frames, rows, columns, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (COUNT, ROWS, COLUMNS, 3), dtype=np.uint8)
    return noise if colour else np.repeat(noise[..., :1], 3, axis=-1)


def masks() -> np.ndarray:
    labels = np.zeros((COUNT, ROWS, COLUMNS), dtype=np.uint8)
    for index in range(COUNT):
        labels[index, 2 + index : 8 + index, 3:9] = 1
        labels[index, 12:16, 14:20] = 3
    return labels


def write_case(folder: Path, name: str, frames: np.ndarray, labels: dict[int, np.ndarray] | None = None) -> None:
    (folder / "videos" / name).mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "videos" / name / f"{index:05d}.png")
    known = dict(enumerate(masks())) if labels is None else labels
    write_png_masks(folder / "masks" / name, known.values(), [f"{index:05d}" for index in known])


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_grey_and_colour_are_told_apart_by_content(tmp_path):
    for name, frames in (("grey", pixels(False)), ("colour", pixels(True))):
        write_video(tmp_path / f"{name}.mp4", frames=list(frames))  # stored as YUV either way
    assert not is_colour(open_video(tmp_path / "grey.mp4"))
    assert is_colour(open_video(tmp_path / "colour.mp4"))


def test_a_frame_is_a_slice_with_the_pixels_that_sessions_show(tmp_path):
    frames = pixels(True)
    write_case(tmp_path, "one", frames)
    convert_videos(tmp_path, tmp_path / "raw")
    files = [tmp_path / "raw" / "imagesTr" / f"one_{channel:04d}.nii.gz" for channel in range(3)]
    # as nnU-Net reads it: channels first, spacing of time first
    array, properties = SimpleITKIO().read_images([str(file) for file in files])
    np.testing.assert_array_equal(array, np.moveaxis(frames, -1, 0))
    assert properties["spacing"] == [1.0, 1.0, 1.0]
    video = open_video(tmp_path / "videos" / "one")
    np.testing.assert_array_equal(np.moveaxis(array[:, 4], 0, -1), video.frame(4))


def test_grey_videos_have_one_channel_and_labels_no_gaps(tmp_path):
    frames = pixels(False)
    write_case(tmp_path, "one", frames)
    content = convert_videos(tmp_path, tmp_path / "raw")
    assert [file.name for file in (tmp_path / "raw" / "imagesTr").iterdir()] == ["one_0000.nii.gz"]
    np.testing.assert_array_equal(read(tmp_path / "raw" / "imagesTr" / "one_0000.nii.gz"), frames[..., 0])
    expected = masks()
    expected[expected == 3] = 2
    np.testing.assert_array_equal(read(tmp_path / "raw" / "labelsTr" / "one.nii.gz"), expected)
    assert content["labels"] == {"background": 0, "object 1": 1, "object 3": 2}
    assert content["channel_names"] == {"0": "rgb_to_0_1"} and content["numTraining"] == 1
    assert json.loads((tmp_path / "raw" / "dataset.json").read_text()) == content
    assert sources_of(content).is_video("one")


def test_one_video_in_colour_gives_all_three_channels(tmp_path):
    grey = pixels(False)
    write_case(tmp_path, "grey", grey)
    write_case(tmp_path, "colour", pixels(True))
    content = convert_videos(tmp_path, tmp_path / "raw")
    assert len(content["channel_names"]) == 3
    for channel in range(3):
        np.testing.assert_array_equal(
            read(tmp_path / "raw" / "imagesTr" / f"grey_{channel:04d}.nii.gz"), grey[..., channel]
        )


def test_a_frame_in_colour_that_was_not_looked_at_is_not_made_grey(tmp_path, monkeypatch):
    frames = pixels(False)
    frames[3] = pixels(True)[3]
    write_case(tmp_path, "one", frames)
    monkeypatch.setattr(conversion, "LOOKED_AT", 2)  # the first and the last
    with pytest.raises(UserError, match="frame 3 of .*one is in colour.*add --colour"):
        convert_videos(tmp_path, tmp_path / "raw")
    assert len(convert_videos(tmp_path, tmp_path / "raw", colour=True)["channel_names"]) == 3
    found = [read(tmp_path / "raw" / "imagesTr" / f"one_{channel:04d}.nii.gz")[3] for channel in range(3)]
    np.testing.assert_array_equal(np.stack(found, axis=-1), frames[3])


def test_regions_keep_their_order_and_frames_without_masks_are_ignored(tmp_path):
    write_case(tmp_path, "one", pixels(False), {0: masks()[0], 5: masks()[5]})
    stated = {"labels": {"background": 0, "both": [1, 3], "inner": 3}, "regions_class_order": [1, 3]}
    (tmp_path / "dataset.json").write_text(json.dumps(stated))
    content = convert_videos(tmp_path, tmp_path / "raw")
    assert content["labels"] == {"background": 0, "both": [1, 2], "inner": 2, "ignore": 3}
    assert content["regions_class_order"] == [1, 2]
    found = read(tmp_path / "raw" / "labelsTr" / "one.nii.gz")
    assert (found[1:5] == 3).all() and set(np.unique(found[[0, 5]])) == {0, 1, 2}


def test_a_declared_ignore_label_becomes_the_highest(tmp_path):
    labels = masks()
    labels[0, :2] = 9
    write_case(tmp_path, "one", pixels(False), dict(enumerate(labels)))
    stated = {"labels": {"background": 0, "left": 1, "right": 3, "ignore": 9}}
    (tmp_path / "dataset.json").write_text(json.dumps(stated))
    assert convert_videos(tmp_path, tmp_path / "raw")["labels"] == {"background": 0, "left": 1, "right": 2, "ignore": 3}
    assert (read(tmp_path / "raw" / "labelsTr" / "one.nii.gz")[0, :2] == 3).all()


def test_names_that_nnunet_cannot_have_are_changed():
    cases = [VideoCase(name, Path(name), Path(name)) for name in ("a b", "c.1-2_x")]
    assert case_names(cases) == ["a_b", "c.1-2_x"]
    with pytest.raises(UserError, match="would both be the case a_b"):
        case_names([*cases, VideoCase("a_b", Path("a_b"), Path("a_b"))])


def test_a_bad_mask_leaves_the_other_cases_and_the_same_command_goes_on(tmp_path, monkeypatch):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "left": 1, "right": 3}}))
    strange = masks()
    strange[3, 0, 0] = 7
    write_case(tmp_path, "a", pixels(False), dict(enumerate(strange)))
    write_case(tmp_path, "b", pixels(False))
    with pytest.raises(UserError, match=r"1 of 2 videos.*frame 3 .*has the value 7.*run the same command again"):
        convert_videos(tmp_path, tmp_path / "raw")
    written = sorted(file.name for file in (tmp_path / "raw").rglob("*.*"))
    assert written == ["b.nii.gz", "b_0000.nii.gz", "begun.json"]  # no dataset.json: the dataset is not complete
    time = (tmp_path / "raw" / "labelsTr" / "b.nii.gz").stat().st_mtime_ns
    Image.fromarray(masks()[3]).save(tmp_path / "masks" / "a" / "00003.png")
    assert convert_videos(tmp_path, tmp_path / "raw")["numTraining"] == 2
    assert (tmp_path / "raw" / "labelsTr" / "b.nii.gz").stat().st_mtime_ns == time
    assert not (tmp_path / "raw" / "begun.json").exists()
    with pytest.raises(UserError, match="exists already"):
        convert_videos(tmp_path, tmp_path / "raw")


def test_labels_that_change_meanwhile_are_not_mixed(tmp_path):
    """A label that is declared late would be the number of another one in the cases that are written already."""
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "left": 1, "right": 3}}))
    strange = masks()
    strange[3, 0, 0] = 2
    write_case(tmp_path, "a", pixels(False), dict(enumerate(strange)))
    write_case(tmp_path, "b", pixels(False))
    with pytest.raises(UserError, match="has the value 2"):
        convert_videos(tmp_path, tmp_path / "raw")
    stated = {"labels": {"background": 0, "left": 1, "middle": 2, "right": 3}}
    (tmp_path / "dataset.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match="raw was begun with other labels, channels or sources: delete the folder"):
        convert_videos(tmp_path, tmp_path / "raw")


def test_cases_of_another_folder_are_not_mixed_in(tmp_path):
    (tmp_path / "raw" / "labelsTr").mkdir(parents=True)
    (tmp_path / "raw" / "labelsTr" / "other.nii.gz").touch()
    write_case(tmp_path, "one", pixels(False))
    with pytest.raises(UserError, match="raw was begun with another case, other: delete the folder"):
        convert_videos(tmp_path, tmp_path / "raw")


def test_one_video_is_in_memory_at_a_time(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_case(tmp_path, name, pixels(False))
    open_now, most = [], []

    def opened(case):
        open_now.append(case.name)
        most.append(len(open_now))
        return original(case)

    original, closed = VideoCase.open, VideoCase.close
    monkeypatch.setattr(VideoCase, "open", opened)
    monkeypatch.setattr(VideoCase, "close", lambda case: (open_now.remove(case.name), closed(case)))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "left": 1, "right": 3}}))
    convert_videos(tmp_path, tmp_path / "raw")
    assert most == [1] * 6 and open_now == []  # looked at, then written


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    write_case(tmp_path, "one", pixels(False))
    assert main(["videos", str(tmp_path), "-d", "20", "--name", "Echo"]) == 0
    assert (tmp_path / "nnUNet_raw" / "Dataset020_Echo" / "labelsTr" / "one.nii.gz").is_file()
    assert "1 videos of one channel, labels background 0, object 1 1, object 3 2" in capsys.readouterr().out
    assert main(["videos", str(tmp_path), "-d", "20", "--name", "Other"]) == 2
    assert "nnUNet_raw has Dataset020_Echo already" in capsys.readouterr().err
