"""Draws an overlay of every test case of an nnU-Net dataset, with the predictions of several methods.

    python -m nnunetv2_sam2_3dmed.demo.pictures --dataset nnUNet_raw/Dataset009_Spleen --gt labelsTs \\
        -m nnU-Net=PREDICTIONS_A SAM2-3dMed=PREDICTIONS_B -o pictures
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK
from batchgenerators.utilities.file_and_folder_operations import load_json

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import checked_paths
from nnunetv2_sam2_3dmed.images.overlays import CaseOverlay, intensity_window, write_overlay


def read_volume(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A volume with its slice axis (the one with the coarsest spacing) first, and its spacing in millimetres.

    Volumes are turned to the usual orientation first, so that axial slices show the front at the top.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected one file per test case, named after the case.")
    with checked_paths([path], finite=False) as (exact,):
        volume = SimpleITK.DICOMOrient(SimpleITK.ReadImage(exact), "LPS")
    spacing = tuple(reversed(volume.GetSpacing()))
    axis = int(np.argmax(np.round(spacing, 3)))  # the first of equals: axial slices
    first, second, third = axis, *(a for a in range(3) if a != axis)
    voxels = np.transpose(SimpleITK.GetArrayFromImage(volume), (first, second, third))
    return voxels, (spacing[first], spacing[second], spacing[third])


def write_pictures(dataset: Path, truth: Path, predictions: Mapping[str, Path], output: Path) -> list[Path]:
    """Writes one PNG per test case.

    Args:
        dataset: nnU-Net raw dataset folder: its dataset.json names the classes, its imagesTs has the images.
        truth: folder with the true label maps of the test cases.
        predictions: folder with the predicted label maps, by method.
        output: folder for the pictures.

    Returns:
        The files written.
    """
    description = load_json(str(dataset / "dataset.json"))
    ending = description["file_ending"]
    class_names = {int(value): name for name, value in description["labels"].items() if int(value) > 0}
    written = []
    for image_path in sorted((dataset / "imagesTs").glob(f"[!.]*_0000{ending}")):
        case = image_path.name.removesuffix(f"_0000{ending}")
        image, spacing = read_volume(image_path)
        overlay = CaseOverlay(
            name=case,
            image=image,
            truth=read_volume(truth / f"{case}{ending}")[0],
            predictions={method: read_volume(folder / f"{case}{ending}")[0] for method, folder in predictions.items()},
            spacing=spacing,
            class_names=class_names,
            window=intensity_window(image, is_ct=str(description["channel_names"]["0"]).upper() == "CT"),
            synthetic="synthetic" in f"{description.get('name')} {description.get('description')}".lower(),
        )
        written.append(output / f"{case}.png")
        write_overlay(written[-1], overlay)
    return written


def method_folder(text: str) -> tuple[str, Path]:
    """Splits ``NAME=FOLDER``."""
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FOLDER")
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw images, truth and predictions side by side.")
    parser.add_argument("--dataset", type=Path, required=True, help="nnU-Net raw dataset folder with imagesTs")
    parser.add_argument("--gt", type=Path, required=True, help="true label maps of the test cases")
    parser.add_argument(
        "-m",
        dest="methods",
        nargs="+",
        type=method_folder,
        required=True,
        metavar="NAME=FOLDER",
        help="predictions",
    )
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args()
    for path in write_pictures(args.dataset, args.truth, dict(args.methods), args.output):
        print(path)


if __name__ == "__main__":
    main()
