"""Videos with ground truth: folders of videos and masks, DAVIS' layout, and CAMUS' sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.files import read_json
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import read_volume, stem
from nnunetv2_sam2_3dmed.video.numbered_frames import numbered
from nnunetv2_sam2_3dmed.video.opening import name_of, open_video
from nnunetv2_sam2_3dmed.video.png_masks import are_black_and_white, read_png_mask
from nnunetv2_sam2_3dmed.video.video import Video

# folders of videos and masks; all but the first are DAVIS', whose frames come in two resolutions
LAYOUTS = (
    ("videos", "masks"),
    ("JPEGImages/480p", "Annotations/480p"),
    ("JPEGImages/Full-Resolution", "Annotations/Full-Resolution"),
    ("JPEGImages", "Annotations"),
)
GT = "_gt"  # between name and ending of CAMUS' ground truth
ONE_FRAME = ("_ED", "_ES")  # ends of CAMUS' names of single frames, which are also in the sequences
RAW = (".raw", ".zraw", ".raw.gz")  # voxels of a .mhd or .nhdr file


@dataclass
class VideoCase:
    """A video with ground truth on all or some of its frames.

    Attributes:
        name: of the case.
        video: path of the video.
        masks: a folder of PNG masks, or a file with a label map of all frames.
    """

    name: str
    video: Path
    masks: Path
    _files: dict[int, Path] | None = field(default=None, repr=False)
    _black_and_white: bool = field(default=False, repr=False)
    _labels: np.ndarray | None = field(default=None, repr=False)

    def open(self) -> Video:
        """Open the video, and find its ground truth.

        PNG masks of a folder of pictures belong to the pictures of the same numbers, others to the frames that their
        numbers count from 0.

        Raises:
            UserError: either cannot be read, or they do not fit each other.
        """
        video = open_video(self.video)
        if self.masks.is_dir():
            files = numbered(self.masks)
            if self.video.is_dir():
                places = {number: place for place, number in enumerate(numbered(self.video))}
            else:
                places = {place: place for place in range(len(video))}
            beyond = [number for number in files if number not in places]
            if beyond:
                raise UserError(f"{files[beyond[0]]} belongs to no frame of {self.video}: give masks of this video.")
            self._files = {places[number]: file for number, file in files.items()}
            self._black_and_white = are_black_and_white(files.values())
        else:
            self._labels = label_map(read_volume(self.masks).array, self.masks)
            if self._labels.shape != video.shape:
                raise UserError(
                    f"the masks in {self.masks} are {' x '.join(map(str, self._labels.shape))}, but {self.video} has "
                    f"{' x '.join(map(str, video.shape))}: give masks of this video."
                )
        return video

    def close(self) -> None:
        """Drop the ground truth from memory; :meth:`open` reads it again."""
        self._files = self._labels = None

    def annotated(self) -> list[int]:
        """Frames with ground truth, of a case that is open."""
        if self._files is not None:
            return sorted(self._files)
        assert self._labels is not None, "open"
        return list(range(len(self._labels)))

    def labels(self, frame: int, shape: tuple[int, int]) -> np.ndarray:
        """Return the label map (rows, columns) of a frame with ground truth.

        Raises:
            UserError: it cannot be read, or has another shape than the frame.
        """
        if self._files is None:
            assert self._labels is not None, "open"
            return self._labels[frame]
        mask = read_png_mask(self._files[frame], self._black_and_white)
        if mask.shape != shape:
            raise UserError(
                f"{self._files[frame]} has {mask.shape[0]} x {mask.shape[1]} pixels, but its frame has {shape[0]} x "
                f"{shape[1]}: give masks of this video."
            )
        return mask


def video_cases(folder: Path) -> list[VideoCase]:
    """Find videos with ground truth in a folder.

    Known are ``videos/NAME`` with ``masks/NAME`` (files of any kind that is read, or folders), DAVIS'
    ``JPEGImages/NAME`` with ``Annotations/NAME``, also within ``480p``, and CAMUS' ``.../NAME.nii.gz`` with
    ``.../NAME_gt.nii.gz``.

    Raises:
        UserError: there are none, or a video has no masks.
    """
    for videos, masks in LAYOUTS:
        if (folder / videos).is_dir():
            return _beside(folder / videos, folder / masks)
    pairs = [
        VideoCase(stem(gt).removesuffix(GT), gt.with_name(gt.name.replace(GT + ending, ending)), gt)
        for ending in (".nii.gz", ".nii", ".mhd", ".mha")
        for gt in sorted(folder.rglob(f"[!.]*{GT}{ending}"))
    ]
    known = [case for case in pairs if case.video.is_file() and not case.name.endswith(ONE_FRAME)]
    if not known:
        raise UserError(
            f"{folder} has no videos with masks: put them into its folders videos and masks, by the same names."
        )
    return sorted(known, key=lambda case: case.name)


def _beside(videos: Path, masks: Path) -> list[VideoCase]:
    known = {name_of(path): path for path in sorted(masks.glob("[!.]*"))}
    cases = []
    for path in sorted(videos.glob("[!.]*")):
        if path.name.lower().endswith(RAW):
            continue
        if name_of(path) not in known:
            raise UserError(f"{path} has no masks of its name in {masks}: add them, or take the video away.")
        cases.append(VideoCase(name_of(path), path, known[name_of(path)]))
    if not cases:
        raise UserError(f"{videos} has no videos: put some there.")
    return cases


def labels_of(folder: Path, cases: list[VideoCase]) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Return the label values of each class or region of a dataset, and the value of pixels without ground truth.

    They are those of ``dataset.json`` beside the videos, written as nnU-Net's; without it, all labels of the masks, and
    None.

    Raises:
        UserError: the file is damaged, or has no labels; a mask cannot be read; or no case has a label.
    """
    file = folder / "dataset.json"
    if file.is_file():
        content = read_json(file, "write it as nnU-Net's")
        try:
            return foreground_classes(content), ignore_label(content)
        except AssertionError as error:  # nnU-Net's own check
            raise UserError(f"{file} has labels that nnU-Net refuses ({error}): correct them.") from error
    found: set[int] = set()
    for case in cases:
        shape = case.open().shape[1:]
        for frame in case.annotated():
            found |= set(np.unique(case.labels(frame, shape)).tolist())
        case.close()
    found -= {0}
    if not found:
        raise UserError(f"no case in {folder} has a label on its masks: draw one.")
    return {f"object {value}": (value,) for value in sorted(found)}, None
