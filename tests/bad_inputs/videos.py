"""Videos that cannot become a dataset of nnU-Net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks
from tests.bad_inputs.row import Place, Row, said
from tests.video.files import numbered_frame, write_video

COMMAND = ("videos", "in", "-d", "20", "--name", "Echo")
FRAMES = 4


def video(place: Place, name: str = "one", masks: int = FRAMES, frames: int = FRAMES) -> None:
    """Frames in colour, and masks with a block."""
    folder = place.folder / "in" / "videos" / name
    folder.mkdir(parents=True)
    for index in range(frames):
        Image.fromarray(numbered_frame(index)).save(folder / f"{index:05d}.png")
    mask = np.zeros(numbered_frame(0).shape[:2], dtype=np.uint8)
    mask[10:20, 10:30] = 1
    write_png_masks(place.folder / "in" / "masks" / name, [mask] * masks)


def convert(change: Callable[[Place], Any], *words: str):
    def make(place: Place):
        (place.folder / "nnUNet_raw").mkdir()
        change(place)
        return [*COMMAND, *words]

    return make


def torn(place: Place) -> None:
    video(place)
    video(place, "two")
    file = place.folder / "in" / "videos" / "two.mp4"
    write_video(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for frame in (place.folder / "in" / "videos" / "two").iterdir():
        frame.unlink()
    (place.folder / "in" / "videos" / "two").rmdir()


def of_another_size(place: Place) -> None:
    video(place)
    Image.fromarray(np.zeros((10, 12), dtype=np.uint8)).save(place.folder / "in" / "masks" / "one" / "00000.png")


def without_frames(place: Place) -> None:
    video(place)
    (place.folder / "in" / "videos" / "two").mkdir()
    (place.folder / "in" / "masks" / "two").mkdir()


def without_masks(place: Place) -> None:
    video(place)
    video(place, "two", masks=0)


ROWS = [
    Row("no folder", convert(lambda place: None), said("there is no folder in")),
    Row(
        "no videos",
        convert(lambda place: place.write("in/notes.txt", "")),
        said("in has no videos with masks", "videos and masks"),
    ),
    Row("a torn mp4", convert(torn), said("1 of 2 videos cannot be converted (two)", "two.mp4", "nothing was written")),
    Row("a video without frames", convert(without_frames), said("(two)", "has no frames", "nothing was written")),
    Row("a video without masks", convert(without_masks), said("(two)", "masks", "nothing was written")),
    Row("masks of another size", convert(of_another_size), said("10 x 12", "its frame has 48 x 64")),
    Row(
        "more masks than frames",
        convert(lambda place: video(place, masks=FRAMES + 1)),
        said("00004.png", "belongs to no frame"),
    ),
    Row(
        "a label that is not declared",
        convert(
            lambda place: (
                video(place),
                place.write("in/dataset.json", {"labels": {"background": 0, "organ": 2}}),
            )
        ),
        said("the mask of frame 0", "has the value 1", "0, 2"),
        writes=("nnUNet_raw/*/begun.json",),  # labels and channels, so that the command goes on with the same
    ),
    Row(
        "a damaged dataset.json",
        convert(lambda place: (video(place), place.write("in/dataset.json", "{"))),
        said("in/dataset.json is no valid JSON"),
    ),
    Row("a number that is none", convert(video, "-d", "0"), said("-d is 0", "1 to 999")),
    Row("a name with a space", convert(video, "--name", "my echo"), said("--name is 'my echo'")),
    Row(
        "nnUNet_raw is not set",
        convert(video),
        said("nnUNet_raw is not set"),
        environment={"nnUNet_raw": None},
    ),
]
