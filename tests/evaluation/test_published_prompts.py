"""Published figures, compared with the tables and the text of the publications."""

from __future__ import annotations

from collections import defaultdict

import pytest

from nnunetv2_sam2_3dmed.evaluation.published import read_published
from nnunetv2_sam2_3dmed.evaluation.published_prompts import published_for, published_results, task_of


def test_published_figures_name_the_model_that_gave_them():
    """The checkpoints that the publications name: sam2_hiera_large, SAM2.1-Tiny, and sam2_hiera_tiny."""
    models = defaultdict(set)
    for result in published_results():
        if result.kind == "prompted":
            models[result.source.partition(",")[0]].add(result.method)
    assert models == {
        "arXiv 2408.02635": {"SAM 2.0 large zero-shot"},
        "arXiv 2504.03600": {
            "MedSAM2, from SAM 2.1 tiny",
            "EfficientMedSAM-Top1",
            "SAM 2.1, lowest of its four sizes",
            "SAM 2.1, highest of its four sizes",
        },
        "arXiv 2505.16561": {"SAM 2.0 tiny, fine-tuned, slice by slice as an image model"},
    }


@pytest.mark.parametrize(
    ("dataset", "prompt", "area", "dice", "nsd", "source"),
    [
        # arXiv 2408.02635, Tables 1 and 2
        ("Dataset137_BraTS2020", "5_clicks", "all", "75.52", "", "arXiv 2408.02635, Table 1"),
        ("Dataset082_BraTS_2020", "1_mask", "salient", "87.17", "", "arXiv 2408.02635, Table 1"),
        ("Dataset009_Spleen", "1_mask", "salient", "94.41", "92.46", "arXiv 2408.02635, Tables 1 and 2"),
        ("Dataset003_Liver", "5_clicks", "salient", "84.85", "52.69", "arXiv 2408.02635, Tables 1 and 2"),
        ("Dataset006_Lung", "5_clicks", "all", "71.61", "68.99", "arXiv 2408.02635, Table 2"),
        ("Dataset007_Pancreas", "1_mask", "all", "51.48", "40.75", "arXiv 2408.02635, Table 2"),
        # not in the tables
        ("Dataset004_Hippocampus", "box", "all", "69.5", "", "arXiv 2505.16561"),
    ],
)
def test_results_are_found_by_dataset_and_prompt(dataset, prompt, area, dice, nsd, source):
    (found,) = [r for r in published_for(dataset, [prompt], area) if r.kind == "prompted"]
    assert (found.dice, found.nsd, found.source, found.statistic) == (dice, nsd, source, "mean")


def test_the_methods_of_both_tables_stand_beside_each_prompt():
    spleen = [(r.method, r.dice) for r in published_for("Dataset009_Spleen", ["1_mask"], "all") if r.kind != "prompted"]
    assert spleen == [
        *(("DeepIGeoS", "91.97"), ("InterCNN", "93.52"), ("IteR-MRL", "91.50"), ("MECCA", "94.96")),
        *(("nnUNet (MSD leaderboard)", "97.43"), ("DiNTS (MSD leaderboard)", "96.98")),
        *(("SwinUNETR (MSD leaderboard)", "96.99"), ("UniversalModel (MSD leaderboard)", "97.27")),
    ]
    assert [r.method for r in published_for("Dataset137_BraTS2020", [])] == [
        "DeepIGeoS",
        "InterCNN",
        "IteR-MRL",
        "MECCA",
    ]
    assert published_for("Dataset999_Kidney") == []


def test_medians_have_their_quartiles_and_are_never_called_means():
    medsam2 = [r for r in published_results() if "2504.03600" in r.source]
    assert {r.statistic for r in medsam2} == {"median"}
    figures = {(r.method.partition(",")[0], r.task): (r.dice, *r.quartiles) for r in medsam2}
    # Results: "88.84% (80.03-94.03%)", "83.55% (interquartile range (IQR): 67.20-91.78%)", "93.10% (91.07-94.11%)"
    assert figures["MedSAM2", "CT organs"] == ("88.84", "80.03", "94.03")
    assert figures["EfficientMedSAM-Top1", "CT organs"] == ("83.55", "67.20", "91.78")
    assert figures["MedSAM2", "ultrasound videos, left ventricle epicardium"] == ("93.10", "91.07", "94.11")
    assert all(float(low) < float(middle) < float(high) for middle, low, high in figures.values())


def test_rounds_of_annotation_add_up_to_what_the_abstract_says():
    annotated = defaultdict(int)
    for row in read_published("medsam2_annotation_times.csv"):
        if row["round"] != "manual":
            annotated[row["study"].partition(" (")[0]] += int(row["annotated"])
    # "5,000 CT lesions, 3,984 liver MRI lesions, and 251,550 echocardiogram video frames"
    assert annotated == {"CT lesions": 5000, "liver MRI lesions": 3984, "echocardiography": 251550}


@pytest.mark.parametrize(("study", "first", "last"), [("CT", 45, 86), ("liver", 54, 87), ("echo", 36, 92)])
def test_seconds_fall_as_the_text_says(study, first, last):
    """45 % and 54 % in the first rounds, 92 % for frames in the last; "more than 85%" for all."""
    rows = [row for row in read_published("medsam2_annotation_times.csv") if row["study"].startswith(study)]
    manual, one, _, three = (float(row["seconds"]) for row in rows)
    assert (round(100 * (1 - one / manual)), round(100 * (1 - three / manual))) == (first, last)


def test_tasks_are_compared_by_their_letters():
    assert task_of("Dataset137_BraTS_2020") == task_of("BraTS2020") == "brats2020"
