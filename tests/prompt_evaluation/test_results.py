"""Tables of a benchmark whose numbers are worked out by hand."""

import csv
import json
import math

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND
from nnunetv2_sam2_3dmed.prompt_evaluation import results
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import (
    Interaction,
    Measured,
    Score,
    as_csv,
    as_interactions_csv,
    read_rows,
    write_rows,
)
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols

CLICKS = "3_clicks"
USED = {"model": "m.pth", "image_size": 64, "device": "cpu", "seed": 0, "warnings": ["beware."]}


def metrics(dice: float) -> MaskMetrics:
    return MaskMetrics(dice, dice / 2, dice / 4, math.nan if dice == 0 else 1.0)


@pytest.fixture
def measured() -> Measured:
    scores = [
        Score(CLICKS, "a", "x", "all", metrics(0.8), 3, 0, 1.5),
        Score(CLICKS, "a", "y", "all", metrics(0.6), 2, 1, 1.5),
        Score(CLICKS, "b", "x", "all", metrics(0.0), 0, 1, 1.5),
        Score(CLICKS, "a", "x", "salient", metrics(0.9), 3, 0, 1.5),
    ]
    turns = [
        Interaction(CLICKS, "a", "x", 1, 1, 0, 0.5, 0.6, 0.3),
        Interaction(CLICKS, "a", "x", 2, 1, 1, 0.7, 0.8, 0.1),
        Interaction(CLICKS, "a", "x", 3, 2, 1, 0.9, 0.9, 0.2),
        Interaction(CLICKS, "b", "x", 1, 0, 1, 0.3, 1.0, 0.5),  # nothing was left to correct
    ]
    return Measured(scores, turns, {"a": 2.0, "b": 4.0}, {"b": ["y"]}, {"c": "c.nii.gz has 3 voxels that are NaN."})


def test_means_over_cases_and_over_the_classes_that_a_case_has(measured):
    rows = {(row.class_name, row.area): row for row in results.score_rows(measured)}
    assert rows["x", "all"].dice.mean == pytest.approx(0.4) and rows["x", "all"].dice.n == 2
    assert rows["y", "all"].dice.mean == pytest.approx(0.6) and rows["y", "all"].dice.n == 1
    assert rows[FOREGROUND, "all"].dice.mean == pytest.approx((0.7 + 0.0) / 2)
    assert rows[FOREGROUND, "all"].prompts == pytest.approx((5 + 0) / 2)
    assert rows[FOREGROUND, "all"].rejected == 2 and rows["y", "all"].rejected == 1
    assert rows["x", "salient"].nsd.mean == pytest.approx(0.225)
    assert (FOREGROUND, "salient") not in rows  # one class


def test_gain_per_click_and_clicks_until(measured):
    rows = results.click_rows(measured, CLICKS)
    assert [row.dice for row in rows] == pytest.approx([0.4, 0.5, 0.6])  # b keeps its 0.3
    assert [row.gain for row in rows] == pytest.approx([0.4, 0.1, 0.1])
    # of 0.9 and 0.3 after the last click
    assert (rows[2].q1, rows[2].median, rows[2].q3) == pytest.approx((0.45, 0.6, 0.75))
    assert [row.slice_dice for row in rows] == pytest.approx([0.8, 0.9, 0.95])
    assert [row.seconds for row in rows] == pytest.approx([0.4, 0.1, 0.2])
    assert [row.rejected for row in rows] == [1, 1, 0]  # the first of b, the second of a
    assert results.clicks_needed(measured, CLICKS) == (1, 2, 3.0)


def test_files(measured):
    chosen = [protocols(3)[CLICKS]]
    rows = list(csv.DictReader(as_csv(measured).splitlines()))
    assert len(rows) == 4 and rows[2]["hd95_mm"] == "" and rows[3]["slices"] == "salient"
    assert len(as_interactions_csv(measured).splitlines()) == 5
    content = json.loads(results.as_json(measured, chosen, USED))
    assert content["results"][1]["dice"]["std"] is None  # of one case
    assert content["failed_cases"] == {"c": "c.nii.gz has 3 voxels that are NaN."} and content["warnings"]
    assert content["clicks"][CLICKS]["until_0.9"]["reached"] == 1
    assert content["median_seconds_per_interaction"][CLICKS] == pytest.approx(0.25)
    text = results.as_markdown(measured, chosen, "Dataset009_Spleen", USED, "3 mm")
    # of 0.8 and 0.0: both quartiles are a quarter of the way from one to the other
    assert "| 0.400 ± 0.566 | 0.400 (0.200 to 0.600) |" in text and "NSD at 3 mm" in text
    assert "Dice of 0.9 in the volume was reached for 1 of 2 objects" in text
    assert "**Warning:** beware." in text and "c (c.nii.gz has 3 voxels that are NaN)" in text
    assert "Each object is scored alone" in text
    assert "1 objects were left out" in text and "3.00 s per case" in text


def test_published_figures_stand_beside_and_are_marked(measured):
    text = results.as_markdown(measured, [protocols(3)[CLICKS]], "Dataset009_Spleen", USED, "3 mm")
    published = text.split("## Published")[1]
    assert "**Not comparable**" in published
    first = [line.split("|")[1:-1] for line in published.splitlines() if line.startswith("| SAM 2.0 large")]
    # arXiv 2408.02635, Table 2; the same task comes first
    assert [cell.strip() for cell in first[0]] == [
        *("SAM 2.0 large zero-shot", "5 clicks", "Spleen", "mean", "79.59", "", "75.63", ""),
        "arXiv 2408.02635, Tables 1 and 2",
    ]
    same_prompt = results.published_table("Dataset009_Spleen", [protocols()["1_mask"]]).splitlines()[2:4]
    assert ["82.77" in same_prompt[0], "94.41" in same_prompt[1]] == [True, True]
    hippocampus = results.published_table("Dataset004_Hippocampus").splitlines()[2]
    assert "Hippocampus" in hippocampus and "69.5" in hippocampus


def test_rows_come_back_for_the_cases_that_were_finished(measured, tmp_path):
    chosen = [protocols(3)[CLICKS]]
    assert read_rows(tmp_path) == Measured()
    write_rows(tmp_path, measured, results.as_json(measured, chosen, USED))
    again = read_rows(tmp_path)
    assert as_csv(again) == as_csv(measured) and again.interactions == measured.interactions
    assert again.encoding_seconds == measured.encoding_seconds and again.absent == {"b": ["y"]}
    assert again.failed == {}  # these are tried again
    del measured.encoding_seconds["b"]  # ended before the summary was written
    write_rows(tmp_path, measured, results.as_json(measured, chosen, USED))
    assert {score.case for score in read_rows(tmp_path).scores} == {"a"}
    (tmp_path / "per_case.csv").write_text("protocol,case\nbox,a\n")
    with pytest.raises(UserError, match="is damaged"):
        read_rows(tmp_path)
