"""Tables of experiments: published figures and the tolerance of NSD."""

from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.tables import Table
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import PromptedDataset, PromptExperiment
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_table import as_text, score_table
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Measured, Score
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols

CHOSEN = [protocols()["box"]]


def experiment(tolerance_mm: float | None) -> PromptExperiment:
    datasets = (PromptedDataset("Spleen"), PromptedDataset("CT_Lesions"))
    return PromptExperiment("boxes", "Boxes", "m.pth", None, ("box",), 5, 0, tolerance_mm, datasets)


@pytest.fixture
def measured() -> dict[str, Measured]:
    score = Score("box", "a", "x", "all", MaskMetrics(0.8, 0.6, 0.7, 1.0), 1, 0, 1.5)
    return {name: Measured([score], [], {"a": 2.0}, {}, {}) for name in ("Dataset009_Spleen", "Dataset501_CT_Lesions")}


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_published_medians_have_their_quartiles(measured):
    table = score_table(experiment(None), CHOSEN, measured)
    assert table.columns[:3] == ["method", "prompt", "statistic"]
    rows = [row for row in texts(table) if row[1] == "box"]
    # arXiv 2504.03600, Results; arXiv 2505.16561
    assert rows[:3] == [
        ["SAM 2.0 tiny, fine-tuned, slice by slice as an image model", "box", "mean", "93.9", "–", "–", "–"],
        ["MedSAM2, from SAM 2.1 tiny", "box", "median", "–", "–", "86.68 (74.32 to 91.14)", "–"],
        ["EfficientMedSAM-Top1", "box", "median", "–", "–", "77.95 (69.15 to 84.81)", "–"],
    ]
    assert [row[2] for row in rows[3:]] == ["mean", "median"]


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (
            None,
            "Dataset009_Spleen at 3 mm (the Medical Segmentation Decathlon's for Spleen, Antonelli et al. 2022); "
            "Dataset501_CT_Lesions at 2 mm (the default).",
        ),
        (0.5, "Dataset009_Spleen at 0.5 mm (as asked for); Dataset501_CT_Lesions at 0.5 mm (as asked for)."),
    ],
)
def test_the_page_states_the_tolerance_of_nsd(measured, stated, words):
    assert f"NSD of this run: {words}" in as_text(experiment(stated), CHOSEN, measured, 512, {})


def test_the_page_states_the_image_size_and_what_each_run_warned_of(measured):
    warnings = {"Dataset009_Spleen": ["small.", "seen."], "Dataset501_CT_Lesions": ["small."]}
    lines = as_text(experiment(None), CHOSEN, measured, 512, warnings).splitlines()
    assert lines[2].startswith("Model m.pth, images of 512 pixels. Dataset009_Spleen: 1 cases")
    assert [line for line in lines if line.startswith("**Warning**")] == [
        "**Warning** (Dataset009_Spleen, Dataset501_CT_Lesions): small.",
        "**Warning** (Dataset009_Spleen): seen.",
    ]
