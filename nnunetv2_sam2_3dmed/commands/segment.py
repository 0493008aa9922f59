"""Segment objects from prompts on a few slices, with SAM 2 or MedSAM2.

    sam2_3dmed segment ct.nii.gz -o organ.nii.gz --box 40,120,200:40,180,290
    sam2_3dmed segment DICOM_FOLDER -o organ.dcm --point 40,150,240 --negative-point 40,100,240
    sam2_3dmed segment ct.nii.gz -o organ.nii.gz --unit mm --point=-31.5,12,-840
    sam2_3dmed segment ct.nii.gz -o lesion.nii.gz --recist 40,120,200:40,180,290:40,135,271:40,163,228
    sam2_3dmed segment --batch prompts.csv -o FOLDER
    sam2_3dmed segment echo.mp4 -o overlay.mp4 --box 0,60,90:0,150,190

A prompt is on one slice; from the slices with prompts the masks are propagated in both directions. Coordinates are
voxels in the order z,y,x, as SimpleITK and nnU-Net count them, or with --unit mm points x,y,z in millimetres, LPS.
A colon stands between the two corners of a box, between the points of a scribble, and between the ends of RECIST
diameters: two ends of the longest one, or these and two of the perpendicular one, of which a box is made. An object has
one box per slice: both diameters go into one --recist. Write an = where a value begins with a minus.

NIfTI, NRRD, MetaImage and DICOM series are read. The result lies on the image's own grid: .nii.gz, .nii, .nrrd, .mha,
or .dcm for DICOM SEG (pip install 'nnunetv2-sam2-3dmed[dicom]'). A picture of the result goes beside it (.png).

The CSV of --batch has a line per prompt, with the columns image, prompt (point, negative_point, box, recist, scribble,
negative_scribble, mask) and where, and if needed object (a number from 1), axis, unit, first, last and output; others,
such as a comment, are ignored. Lines of one image belong together; paths start at the CSV's folder. first and last are
the slices along the axis, counted from 0, between which the object lies: no other slice gets a voxel of it. A mask is a
file on the image's grid, such as a prediction of nnU-Net whose label is the object's number; FILE@SLICE names the
slice, otherwise it is the one where the object is largest.

Videos: mp4, m4v, avi, mov, mkv and webm (pip install 'nnunetv2-sam2-3dmed[video]'), multi-frame DICOM, a folder of
numbered pictures, and with --video NIfTI, NRRD or MetaImage files whose third axis is time. Coordinates are
frame,row,column. The output is a video with coloured masks (.mp4, .mkv, .mov, .avi), a new folder of indexed PNG masks
(a name without ending), COCO's run lengths (.json), label maps (.nii.gz and others) or DICOM SEG. A mask can be an
indexed PNG.

An error in a case is reported with its name and does not stop the others; the exit status is then 2. With
SAM2_3dMed_debug=1 in the environment, unexpected errors are reported with their traceback.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nnunetv2_sam2_3dmed.commands.options import add_axis, add_prompted_model, add_window, check_image_size
from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.files import check_writable_file, check_writable_folder
from nnunetv2_sam2_3dmed.images.windows import window_of

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.images.volumes import Volume
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession, Progress
    from nnunetv2_sam2_3dmed.interactive.prompt_lines import Case, PromptLine
    from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
    from nnunetv2_sam2_3dmed.video import VideoSession

S = TypeVar("S", bound="InteractiveSession")

_KINDS = ("point", "negative_point", "box", "recist", "scribble", "negative_scribble", "mask")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", nargs="?", type=Path, help="image or video file, DICOM folder, or a file of a DICOM series"
    )
    parser.add_argument("--batch", type=Path, metavar="CSV", help="prompts for many images")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help="with --batch: a folder")
    for kind in _KINDS:
        where = {
            "point": "Z,Y,X",
            "box": "Z,Y,X:Z,Y,X",
            "recist": "Z,Y,X:Z,Y,X[:...]",
            "scribble": "Z,Y,X:...",
            "mask": "FILE[@SLICE]",
        }
        parser.add_argument(
            f"--{kind.replace('_', '-')}",
            action="append",
            default=[],
            metavar=where[kind.removeprefix("negative_")],
            help={
                "point": "inside the object",
                "negative_point": "outside the object",
                "box": "around the object on a slice",
                "recist": "ends of its longest diameter on a slice, and if known of the perpendicular one",
                "scribble": "line inside the object",
                "negative_scribble": "line outside the object",
                "mask": "the object on a slice of a segmentation",
            }[kind]
            + ("; can be repeated, one per slice" if kind in ("box", "recist") else "; can be repeated"),
        )
    parser.add_argument(
        "--unit", choices=("voxel", "mm"), default="voxel", help="of coordinates (default: %(default)s)"
    )
    add_axis(parser)
    parser.add_argument(
        "--slices",
        type=int,
        nargs=2,
        metavar=("FIRST", "LAST"),
        help="first and last slice of objects without their own in the CSV (default: all)",
    )
    parser.add_argument(
        "--video", action="store_true", help="the third axis of NIfTI, NRRD and MetaImage files is time"
    )
    add_window(parser)
    add_prompted_model(parser)
    parser.add_argument(
        "--format",
        default=".nii.gz",
        metavar="ENDING",
        help="of files of --batch without a name (default: %(default)s)",
    )
    parser.add_argument("--no-preview", action="store_true", help="no picture beside the result")


def run(args: argparse.Namespace) -> None:
    cases = _cases(args)
    window = window_of(args.window)
    check_image_size(args.image_size)
    _check_slices(args.slices)
    videos = {case.image for case in cases if _is_video(case.image, args)}
    _check_outputs(cases, videos, previews=not args.no_preview)
    _check_dicom_segs([case for case in cases if case.image not in videos])

    from nnunetv2_sam2_3dmed.commands.segment_video import open_case, segment_video
    from nnunetv2_sam2_3dmed.images.volumes import read_volume
    from nnunetv2_sam2_3dmed.interactive.model import choose_device, model_file

    choose_device(args.device)
    model_file(args.model)
    sessions = _Sessions(args)
    if args.batch is None:
        # all that can be known of a single case before the model is loaded
        (case,) = cases
        if videos:
            video = open_case(case, args)
            segment_video(sessions.of_videos, case, video, args)
            return
        for prompt in case.prompts:
            prompt.check()
        image = read_volume(case.image)
        _segment(sessions.of_volumes, case, image, window, args)
        return
    session: InteractiveSession = sessions.of_volumes
    failed = []
    for number, case in enumerate(cases, start=1):
        print(f"{number}/{len(cases)} {case.image}")
        try:
            if case.image in videos:
                session = sessions.of_videos
                segment_video(session, case, open_case(case, args), args)
            else:
                session = sessions.of_volumes
                _segment(session, case, case.image, window, args)
            continue
        except Exception as error:
            failed.append(case.image.name)
            print(f"sam2_3dmed segment: {case.image}: {in_one_sentence(error)}", file=sys.stderr)
        session.clear()  # outside of the handler, whose traceback holds what is to be freed
    if failed:
        raise UserError(f"{len(failed)} of {len(cases)} images failed, for the reasons above: {', '.join(failed)}.")


class _Sessions:
    """Sessions on volumes and on videos, each made when it is needed; the second one takes the model of the first."""

    def __init__(self, args: argparse.Namespace):
        self._args = args
        self._model: str | SAM2Base = args.model

    @cached_property
    def of_volumes(self) -> InteractiveSession:
        from nnunetv2_sam2_3dmed.interactive import InteractiveSession

        return self._with_model(InteractiveSession)

    @cached_property
    def of_videos(self) -> VideoSession:
        from nnunetv2_sam2_3dmed.video import VideoSession

        return self._with_model(VideoSession)

    def _with_model(self, kind: type[S]) -> S:
        size = self._args.image_size if isinstance(self._model, str) else None
        session = kind(self._model, self._args.device, self._args.precision, size)
        self._model = session.model
        return session


def _is_video(image: Path, args: argparse.Namespace) -> bool:
    from nnunetv2_sam2_3dmed.images.volumes import READABLE
    from nnunetv2_sam2_3dmed.video.opening import is_video

    return is_video(image) or args.video and (args.batch is None or image.name.lower().endswith(READABLE))


def _cases(args: argparse.Namespace) -> list[Case]:
    """Return the images to segment, each with its prompts and output.

    Raises:
        UserError: the arguments are incomplete or contradict each other.
    """
    from nnunetv2_sam2_3dmed.interactive.prompt_lines import Case, PromptLine, read_cases
    from nnunetv2_sam2_3dmed.video.opening import name_of

    prompts: list[PromptLine] = [
        PromptLine(kind, where, 1, args.axis, args.unit) for kind in _KINDS for where in getattr(args, kind)
    ]
    if args.batch is not None:
        if args.image is not None or prompts:
            raise UserError("with --batch, images and prompts come from the CSV: leave the others out.")
        cases = read_cases(args.batch, args.axis, args.unit)
        check_writable_folder(args.output)
        return [
            Case(case.image, case.prompts, case.output or args.output / f"{name_of(case.image)}{args.format}")
            for case in cases
        ]
    if args.image is None:
        raise UserError("say which image to segment, or give --batch CSV.")
    if not prompts:
        raise UserError(
            "say where the object is: --box, --recist, --point, --scribble or --mask (sam2_3dmed segment -h)."
        )
    return [Case(args.image, tuple(prompts), args.output)]


def _check_slices(slices: list[int] | None) -> None:
    """Check ``--slices`` as far as that is possible without an image.

    Raises:
        UserError: the last comes before the first, or the first is negative.
    """
    if slices is not None and not 0 <= slices[0] <= slices[1]:
        raise UserError(f"--slices is {slices[0]} {slices[1]}, but must be the first and the last slice, from 0.")


def _check_outputs(cases: list[Case], videos: set[Path], previews: bool) -> None:
    """Check the outputs before anything takes long; ``videos`` are the cases' images that are videos.

    Raises:
        UserError: a file could not be written, would replace one that is read, or two cases would write the same.
    """
    from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin, twin
    from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
    from nnunetv2_sam2_3dmed.video.writing import check_output

    read = {case.image.resolve() for case in cases}
    read |= {line.mask_file[0].resolve() for case in cases for line in case.prompts if line.kind == "mask"}
    seen: set[Path] = set()
    for case in cases:
        assert case.output is not None
        if case.image not in videos and not case.output.name.endswith((*WRITABLE, ".dcm")):
            raise UserError(f"the output is {case.output}, but must end in {', '.join(WRITABLE)} or .dcm.")
        outputs = (case.output, *([preview_file(case.output)] if previews else []))
        if case.image in videos:
            check_output(case.output, case.image)
        for file in outputs[1:] if case.image in videos else outputs:
            check_writable_file(file)
        if case.output.resolve() == case.image.resolve():
            raise UserError(f"the output {case.output} is the image itself: give another name.")
        if twin(case.output).resolve() in seen:
            raise UserError(f"two images would be written to {case.output}: name their outputs in the CSV.")
        check_no_twin(case.output)
        for file in outputs:
            if file.resolve() in read:
                raise UserError(f"the output {file} would replace an image or mask that is read: give another name.")
            if file.resolve() in seen:
                raise UserError(
                    f"two images would be written to {file}: name their outputs in the CSV's column `output`."
                )
            seen.add(file.resolve())


def _check_dicom_segs(cases: list[Case]) -> None:
    """Check, before the model is loaded, that DICOM SEGs can be written; of a table, an image is checked in its turn.

    Raises:
        UserError: a DICOM SEG could not be written.
    """
    wanted = [(case.image, case.output) for case in cases if case.output and case.output.suffix == ".dcm"]
    if wanted:
        from nnunetv2_sam2_3dmed.images.dicom_seg import check_dicom_seg, check_highdicom, check_replaceable

        check_highdicom()
        for _, output in wanted:
            check_replaceable(output)
        image, _ = wanted[0]
        if len(cases) == 1 and image.exists():
            check_dicom_seg(image)


def _segment(
    session: InteractiveSession,
    case: Case,
    image: Path | Volume,
    window: str | tuple[float, float],
    args: argparse.Namespace,
) -> None:
    from nnunetv2_sam2_3dmed.interactive.extents import propagate_within
    from nnunetv2_sam2_3dmed.interactive.preview import write_preview

    start = time.perf_counter()
    shown = session.set_image(image, window=window)
    low, high = session.window
    print(
        f"{shown.name}: {' x '.join(map(str, shown.shape))} voxels of "
        f"{' x '.join(f'{length:.3g}' for length in shown.spacing)} mm (z, y, x), shown from {low:g} to {high:g}"
    )
    assert case.output is not None
    notes = list(shown.notes)
    if case.output.suffix == ".dcm":
        from nnunetv2_sam2_3dmed.images.dicom_seg import check_dicom_seg

        notes += check_dicom_seg(shown)
    for note in notes:
        print(f"warning: {shown.name}: {note}", file=sys.stderr)
    for prompt in case.prompts:
        prompt.add_to(session)
    slices = (args.slices[0], args.slices[1]) if args.slices else None
    progress = ProgressLine()
    try:
        propagate_within(session, case.extents, slices, progress.show)
    finally:
        progress.end()
    labels = session.labels()
    session.save(case.output, labels)
    millilitres = labels[labels > 0].size * float(shown.spacing[0] * shown.spacing[1] * shown.spacing[2]) / 1000
    print(
        f"wrote {case.output}: {len(session.object_ids)} objects, {millilitres:.1f} ml, "
        f"{time.perf_counter() - start:.1f} s"
    )
    if not args.no_preview:
        try:
            write_preview(preview_file(case.output), session, labels, case.prompts[0].axis_in(session))
        except Exception as error:
            raise UserError(f"the mask was written, but not its picture: {in_one_sentence(error)}") from error


def preview_file(output: Path) -> Path:
    """The picture beside a result."""
    from nnunetv2_sam2_3dmed.images.volumes import stem

    return output.with_name(f"{stem(output)}.png")


class ProgressLine:
    """A line that counts slices, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self.shown = False

    def show(self, progress: Progress) -> None:
        if sys.stderr.isatty():
            self.shown = True
            print(f"\rslice {progress.done} of {progress.total}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.shown:
            print(file=sys.stderr)
