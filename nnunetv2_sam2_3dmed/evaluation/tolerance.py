"""The tolerance of NSD: the Medical Segmentation Decathlon's own for its tasks, and one default for all else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.errors import UserError

DEFAULT_TOLERANCE_MM = 2.0

# Antonelli et al. 2022, The Medical Segmentation Decathlon, Nature Communications 13:4128; in mm, one per task
MSD_TOLERANCES_MM = {
    "BrainTumour": 5.0,
    "Heart": 4.0,
    "Liver": 7.0,
    "Hippocampus": 1.0,
    "Prostate": 4.0,
    "Lung": 2.0,
    "Pancreas": 5.0,
    "HepaticVessel": 3.0,
    "Spleen": 3.0,
    "Colon": 4.0,
}


@dataclass(frozen=True)
class Tolerance:
    """A tolerance of NSD.

    Attributes:
        mm: the tolerance in mm.
        source: where it comes from, as a clause for a report.
    """

    mm: float
    source: str


def nsd_tolerance(dataset_name: str | None, stated_mm: float | None = None) -> Tolerance:
    """The tolerance to use for a dataset.

    Args:
        dataset_name: nnU-Net's name of the dataset. ``DatasetNNN_TASK`` with the name of one of MSD's tasks is taken
            for that task, whatever its number is.
        stated_mm: the tolerance in mm that the user asked for, if any; it goes before all others.

    Raises:
        UserError: if the stated tolerance is negative or not finite.
    """
    if stated_mm is not None:
        if not (math.isfinite(stated_mm) and stated_mm >= 0):
            raise UserError(
                f"the NSD tolerance is {stated_mm} mm, expected 0 or more: give another, or none to have MSD's own "
                f"for MSD tasks and {DEFAULT_TOLERANCE_MM:g} mm otherwise."
            )
        return Tolerance(float(stated_mm), "as asked for")
    match = re.fullmatch(r"Dataset\d{3}_(\w+)", dataset_name or "")
    if match and match[1] in MSD_TOLERANCES_MM:
        return Tolerance(
            MSD_TOLERANCES_MM[match[1]],
            f"the Medical Segmentation Decathlon's for {match[1]}, Antonelli et al. 2022",
        )
    return Tolerance(DEFAULT_TOLERANCE_MM, "the default")
