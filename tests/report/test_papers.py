from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.report.papers import published_tables


@pytest.mark.parametrize(
    ("dataset", "tables"),
    [
        ("Dataset009_Spleen", 3),
        ("Dataset906_Lung", 2),  # another number: the per-case results are for Dataset006_Lung
        ("Dataset004_Hippocampus", 1),
        ("Dataset003_Liver", 0),
        ("Dataset042_SpleenAndLiver", 0),
        ("an unnamed dataset", 0),
    ],
)
def test_tables_are_shown_only_for_their_datasets(dataset, tables):
    assert len(published_tables(dataset)) == tables


def test_figures_are_those_of_the_papers():
    paper, interactive, _ = published_tables("Dataset007_Pancreas")
    # arXiv 2510.08967, Table 1, last row; Dice, IoU, NSD, HD95
    assert paper.rows[-1] == ("SAM2-3dMed", "0.704", "0.571", "0.620", "14.92")
    assert len(paper.rows) == 7
    # arXiv 2408.02635, Table 2: 81.64 and 96.14 per cent
    assert interactive.rows[0] == ("nnUNet (MSD leaderboard)", "0.816", "–", "0.961", "–")
