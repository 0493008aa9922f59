"""A round of three phantoms, its files, and how to read them."""

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.annotation.outlines import add_to_table
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, OutlinedCase, OutlinedObject, RankedCase, Round
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.server.page_phantom import DIRECTION, FIRST, write_image

NAMES = {1: "liver", 2: "spleen", 5: "lesion"}
MADE_BY = {
    "dataset": "Dataset009_Phantom",
    "file_ending": ".nii.gz",
    "model": "m",
    "model_sha256": "abc",
    "window": ["percentile"],
}
SLICE = 20
HALF = np.where(np.arange(48)[:, None] < 24, FIRST[SLICE], 0).astype(
    np.uint8
)  # of the first object, what the model saw


def write_labels(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetDirection(DIRECTION.reshape(-1).tolist())
    sitk.WriteImage(image, str(path))
    return path


def read(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def write_round(folder: Path) -> Round:
    """Two cases in the first stage, with half of the first object on a slice, and one in the second stage."""
    made = Round(folder / "lesions", dict(MADE_BY))
    for name in ("a", "b", "c"):
        image = write_image(folder / f"{name}_0000.nii.gz")
        sums = [sha256_of(image), ["box"]]
        if name == "c":
            mask = write_labels(made.mask(name), FIRST * 1)
            scored = [ObjectScore(1, "liver", 0.2, None, int(FIRST.sum()))]
            made.cases[name] = RankedCase(str(image), *sums, ["box"], sha256_of(mask), "2026-01-01", scored)
            continue
        labels = np.zeros(FIRST.shape, np.uint8)
        labels[SLICE] = HALF
        mask = write_labels(made.outline(name), labels)
        found = [OutlinedObject(1, SLICE, int(HALF.sum())), OutlinedObject(2, SLICE, 0)]
        made.outlines[name] = OutlinedCase(str(image), *sums, sha256_of(mask), "2026-01-01", 0, found)
        add_to_table(made, name)
    made.save()
    return made


def rows(made) -> list[tuple[str, ...]]:
    found = csv.DictReader((made.folder / "outlines.csv").read_text("utf-8").splitlines())
    return [(row["where"].split("/")[1], row["object"], row["first"], row["last"]) for row in found]
