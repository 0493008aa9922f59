"""Streaming against sliding windows: the Dice and NSD of a trained model's validation cases, and the seconds they take.

    python benchmarks/streaming.py -d 4 -tr SAM2_3dMedTrainer_noPretrain_tuned_20minutes -device cpu

Predicts the validation cases of a fold from their raw images with `sam2_3dmed predict`, with windows and with
--streaming, compares both with `sam2_3dmed compare`, and writes benchmarks/results/streaming_DATASET.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, load_dataset_json, nnunet_folder
from nnunetv2_sam2_3dmed.report.measure import cpu_name

RESULTS = Path(__file__).parent / "results"
WAYS = {"windows": (), "streaming": ("--streaming",)}


def link_validation_images(dataset: str, fold: int, to: Path) -> int:
    """Link the images of a fold's validation cases into the folder ``to``; return how many cases there are."""
    cases = read_json(nnunet_folder("nnUNet_preprocessed") / dataset / "splits_final.json")[fold]["val"]
    ending = load_dataset_json(dataset)["file_ending"]
    for case in cases:
        for image in (nnunet_folder("nnUNet_raw") / dataset / "imagesTr").glob(f"{case}_????{ending}"):
            image.read_bytes()  # from now on in the computer's memory, for whichever way comes first
            (to / image.name).symlink_to(image.resolve())
    return len(cases)


def run(*command: str) -> float:
    """Run a console script of this Python's environment and return the seconds."""
    begun = time.perf_counter()
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True)
    parser.add_argument("-tr", default="SAM2_3dMedTrainer")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-c", default="3d")
    parser.add_argument("-f", type=int, default=0)
    parser.add_argument("-device", default="cuda")
    args = parser.parse_args()
    dataset = dataset_name(args.d)
    name = RESULTS / f"streaming_{dataset}"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        cases = link_validation_images(dataset, args.f, root / "images")
        where = ("-d", args.d, "-tr", args.tr, "-p", args.p, "-c", args.c, "-f", str(args.f), "-device", args.device)
        seconds = {
            way: run("sam2_3dmed", "predict", *where, "-i", str(root / "images"), "-o", str(root / way), *options)
            for way, options in WAYS.items()
        }
        methods = [f"{way}={root / way}" for way in WAYS]
        run("sam2_3dmed", "compare", "-d", args.d, "-m", *methods, "-o", str(root / "comparison"))
        summary = (root / "comparison" / "comparison.md").read_text(encoding="utf-8").replace(f"{root}{os.sep}", "")
    facts = {
        "dataset": dataset,
        "model": f"{args.tr}__{args.p}__{args.c}, fold {args.f}",
        "cases": cases,
        "device": cpu_name() if args.device == "cpu" else torch.cuda.get_device_name(),
        "seconds_with_start_preprocessing_and_export": {way: round(value, 1) for way, value in seconds.items()},
        **software_and_machine(),
    }
    write_text(name.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    write_text(name.with_suffix(".md"), summary)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
