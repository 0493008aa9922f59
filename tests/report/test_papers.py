from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.evaluation.published import read_published
from nnunetv2_sam2_3dmed.report.papers import WITH_PROMPTS, PublishedTable, published_tables


def texts(paper: PublishedTable) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row) for row in paper.table.rows]


@pytest.mark.parametrize(
    ("dataset", "tables"),
    [
        ("Dataset009_Spleen", 4),
        ("Dataset906_Lung", 3),  # another number: the per-case results are for Dataset006_Lung
        ("Dataset004_Hippocampus", 2),
        ("Dataset003_Liver", 1),
        ("Dataset137_BraTS2020", 1),
        ("Dataset501_CTLesions", 1),
        ("Dataset042_SpleenAndLiver", 0),
        ("an unnamed dataset", 0),
    ],
)
def test_tables_are_shown_only_for_their_datasets(dataset, tables):
    assert len(published_tables(dataset)) == tables


def test_figures_are_those_of_the_papers():
    paper, interactive, *_ = published_tables("Dataset007_Pancreas")
    # arXiv 2510.08967, Table 1, last row; Dice, IoU, NSD, HD95
    assert texts(paper)[-1] == ("SAM2-3dMed", "0.704", "0.571", "0.620", "14.92")
    assert len(paper.table.rows) == 7
    # arXiv 2408.02635, Table 2: 81.64 and 96.14 per cent
    assert texts(interactive)[0] == ("nnUNet (MSD leaderboard) (supervised)", "0.816", "–", "0.961", "–")
    (brats,) = published_tables("Dataset137_BraTS2020")
    # Table 1, first row, and the fifth
    assert texts(brats)[0] == ("DeepIGeoS (interactive in 3D)", "0.885", "–", "–", "–")
    assert texts(brats)[4] == ("SAM 2.0 large zero-shot (5 clicks)", "0.755", "–", "–", "–")


def test_the_interactive_paper_s_rows_name_the_checkpoint():
    """Section 3.3 of arXiv 2408.02635 says that it loads sam2_hiera_large."""
    interactive = published_tables("Dataset009_Spleen")[1]
    # Table 2, last row: 94.41 and 92.46 per cent
    assert texts(interactive)[-1] == ("SAM 2.0 large zero-shot (1 mask, salient)", "0.944", "–", "0.925", "–")
    assert "sam2_hiera_large (SAM 2.0)" in interactive.table.note


def test_the_row_of_medsam_2_is_not_taken_for_ours():
    paper = published_tables("Dataset009_Spleen")[0]
    # Table 1, third line of the spleen columns
    assert texts(paper)[1] == ("MedSAM-2", "0.942", "0.892", "0.915", "3.58")
    assert "selfSorting are only inspired by it" in paper.table.note


def test_medsam2_s_medians_have_their_quartiles_and_their_name():
    (lesions,) = published_tables("Dataset501_CT_Lesions")
    # arXiv 2504.03600, Results: 86.68 (74.32 to 91.14) and 77.95 (69.15 to 84.81) per cent
    assert texts(lesions) == [
        ("MedSAM2, from SAM 2.1 tiny (box, median)", "0.867 (0.743 to 0.911)", "–", "–", "–"),
        ("EfficientMedSAM-Top1 (box, median)", "0.780 (0.692 to 0.848)", "–", "–", "–"),
    ]
    assert lesions.address == "https://arxiv.org/abs/2504.03600" and lesions.table.note.startswith("Medians")


def test_the_box_slice_by_slice_is_a_mean():
    slice_by_slice, per_case = published_tables("Dataset004_Hippocampus")
    name = "SAM 2.0 tiny, fine-tuned, slice by slice as an image model (box, mean)"
    assert texts(slice_by_slice) == [(name, "0.695", "–", "–", "–")]
    assert slice_by_slice.address == per_case.address == "https://arxiv.org/abs/2505.16561"


def test_no_publication_with_prompts_is_left_out():
    sources = [row["source"] for row in read_published("prompted_papers.csv")]
    assert all(source.startswith(tuple(WITH_PROMPTS)) for source in sources)
