"""Costs of the four metrics on large cases: CPU seconds per class, and the peak memory of a worker.

    nice -n 15 python benchmarks/metrics_cost.py

Writes label maps to a temporary folder, evaluates each case as a worker of `sam2_3dmed compare` does, in a process of
its own, and writes benchmarks/results/metrics_cost.json. CPU seconds, since they depend less on what else runs; peak
memory is that of the whole process, imports and reading included. For the liver it also states what the library
surface-distance takes for its distances alone, given the cropped mask.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, ComparedCase
from nnunetv2_sam2_3dmed.evaluation.metrics import compute_metrics
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation
from nnunetv2_sam2_3dmed.processes import peak_bytes

SPACING_MM = (1.0, 0.8, 0.8)
TOLERANCE_MM = 2.0
CASES = {
    "liver, vessels and tumour in 400 x 512 x 512": ("organs", (400, 512, 512), ("liver", "vessels", "tumour")),
    "liver and tumour in 300 x 512 x 512": ("organs", (300, 512, 512), ("liver", "tumour")),
    "body in three shells over all of 400 x 512 x 512": ("shells", (400, 512, 512), ("skin", "muscle", "inside")),
    "the same, of which the prediction found the middle": ("missed", (400, 512, 512), ("skin", "muscle", "inside")),
}


def radius(shape: tuple[int, ...], size: tuple[float, ...], shift: int, bumps: float) -> np.ndarray:
    """Distance to the middle in units of half ``size`` voxels, along each axis, with bumps: float32."""
    z, y, x = ((np.arange(n, dtype=np.float32) - n / 2 - shift) / (s / 2) for n, s in zip(shape, size, strict=True))
    square = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    wave = np.sin(40 * z)[:, None, None] * np.sin(40 * y)[None, :, None] * np.sin(40 * x)[None, None, :]
    return np.sqrt(square) + bumps * wave


def labels_of(kind: str, shape: tuple[int, ...], classes: tuple[str, ...], predicted: bool) -> np.ndarray:
    """The label map of a case, class i having the value i + 1."""
    labels = np.zeros(shape, np.uint8)
    if kind == "organs":
        shift, bumps = (2, 0.03) if predicted else (0, 0.0)
        liver = radius(shape, (min(300, shape[0]), 280, 250), shift, bumps) < 1
        labels[liver] = 1
        if "vessels" in classes:  # crossing tubes of about 5 voxels, all through the liver
            z, y, x = (np.arange(n) % 40 < 5 + predicted for n in shape)
            tubes = (y[None, :, None] & x[None, None, :]) | (z[:, None, None] & x[None, None, :])
            labels[liver & tubes] = 2
        labels[radius(shape, (40, 40, 40), shift, bumps) < 1] = len(classes)
        return labels
    extent = tuple(0.5 * n for n in shape) if predicted and kind == "missed" else tuple(1.15 * n for n in shape)
    distance = radius(shape, extent, 1 if predicted else 0, 0.02 if predicted else 0.0)
    for value, limit in enumerate((1.0, 0.9, 0.7), start=1):
        labels[distance < limit] = value
    return labels


def write_case(name: str, folder: Path) -> None:
    for role in ("truth", "prediction"):
        image = SimpleITK.GetImageFromArray(labels_of(*CASES[name], predicted=role == "prediction"))
        image.SetSpacing(SPACING_MM[::-1])
        SimpleITK.WriteImage(image, str(folder / f"{role}.nii.gz"))


def evaluate_case(name: str, folder: Path) -> dict:
    """Score one case as a worker does, then time each class by itself."""
    classes = {class_name: (i,) for i, class_name in enumerate(CASES[name][2], start=1)}
    files = folder / "truth.nii.gz", folder / "prediction.nii.gz"
    start = time.process_time()
    CaseEvaluator(classes, None, SimpleITKIO(), TOLERANCE_MM)(ComparedCase("case", files[0], {"method": files[1]}))
    facts: dict = {"cpu_seconds_with_reading": round(time.process_time() - start, 2), "peak_gib": peak_gib()}
    truth, prediction = (read_segmentation(file, SimpleITKIO()) for file in files)
    facts["classes"] = {}
    for class_name, (value,) in classes.items():
        start = time.process_time()
        metrics = compute_metrics(truth.labels == value, prediction.labels == value, truth.spacing_mm, TOLERANCE_MM)
        seconds = round(time.process_time() - start, 2)
        facts["classes"][class_name] = {"cpu_seconds": seconds, "nsd": metrics.nsd, "hd95_mm": metrics.hd95_mm}
    facts["torch_imported"] = "torch" in sys.modules
    return facts


def library_on_liver(folder: Path) -> dict:
    """The library's own distances, on the liver of a case."""
    from surface_distance import compute_surface_distances

    masks = [
        read_segmentation(folder / f"{role}.nii.gz", SimpleITKIO()).labels == 1 for role in ("truth", "prediction")
    ]
    before = peak_gib()
    start = time.process_time()
    compute_surface_distances(*masks, SPACING_MM)
    return {"cpu_seconds": round(time.process_time() - start, 2), "peak_gib": peak_gib(), "peak_gib_before": before}


def peak_gib() -> float:
    return round(peak_bytes() / 2**30, 2)


def in_new_process(*arguments: str) -> dict:
    output = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", choices=("write", "evaluate", "library"), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=tuple(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "Please import", DeprecationWarning)
    if args.step == "write":
        print(json.dumps(write_case(args.case, args.folder)))
    elif args.step == "evaluate":
        print(json.dumps(evaluate_case(args.case, args.folder)))
    elif args.step == "library":
        print(json.dumps(library_on_liver(args.folder)))
    else:
        # imports torch, which a worker does not
        from equal_time import RESULTS, machine

        report: dict = {"notes": args.note, "machine": machine("cpu"), "spacing_mm": SPACING_MM, "cases": {}}
        for name in CASES:
            with tempfile.TemporaryDirectory() as folder:
                step = ("--case", name, "--folder", folder, "--step")
                in_new_process(*step, "write")
                report["cases"][name] = in_new_process(*step, "evaluate")
                if CASES[name][0] == "organs":
                    report["cases"][name]["surface_distance_on_liver"] = in_new_process(*step, "library")
            print(name, json.dumps(report["cases"][name]), flush=True)
        RESULTS.mkdir(exist_ok=True)
        beside = RESULTS / ".metrics_cost.json"
        beside.write_text(json.dumps(report, indent=1) + "\n")
        beside.rename(RESULTS / "metrics_cost.json")


if __name__ == "__main__":
    main()
