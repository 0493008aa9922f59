"""Convert a folder of videos with masks into a dataset in nnU-Net's raw format.

    sam2_3dmed videos CAMUS -d 20 --name Camus

FOLDER has videos/NAME with masks/NAME, DAVIS' JPEGImages and Annotations, or CAMUS' NAME.nii.gz with NAME_gt.nii.gz.
A dataset.json in it, as nnU-Net's, names labels or regions. Each video becomes a case whose slices are the frames, as
they are: one channel if all videos are grey, else three. Frames without a mask get the label `ignore`. Labels are
numbered without gaps.

A video that cannot be read is named before anything is written. After an interruption the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import add_new_dataset, new_dataset_name
from nnunetv2_sam2_3dmed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="videos and masks")
    add_new_dataset(parser)
    parser.add_argument(
        "--colour", action="store_true", help="three channels also if the frames that are looked at are grey"
    )


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

    name = new_dataset_name(args.dataset, args.name)
    target = nnunet_folder("nnUNet_raw") / name
    if not args.folder.is_dir():
        raise UserError(f"there is no folder {args.folder}: give one with videos and masks.")

    from nnunetv2_sam2_3dmed.video.conversion import convert_videos

    content = convert_videos(args.folder, target, print, args.colour)
    channels = len(content["channel_names"])
    print(
        f"wrote {target}: {content['numTraining']} videos of {'three channels' if channels == 3 else 'one channel'}, "
        f"labels {', '.join(f'{name} {value}' for name, value in content['labels'].items())}.\n"
        f"Next: nnUNetv2_plan_and_preprocess -d {args.dataset} -c 3d_fullres, sam2_3dmed plan -d {args.dataset}, and, "
        f"where a patient has several videos, sam2_3dmed splits -d {args.dataset} --group-by REGEX."
    )
