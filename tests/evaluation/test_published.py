import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.published import NETWORKS, pair_with_published, published_dice
from nnunetv2_sam2_3dmed.evaluation.scores import score_table

HIPPOCAMPUS = "Dataset004_Hippocampus"
CLASSES = {"Anterior": (1,), "Posterior": (2,)}


def test_the_published_cases_are_all_there():
    assert len(published_dice(HIPPOCAMPUS, "ConvolutionalEncoder")) == 260  # MSD's training cases
    assert len(published_dice("Dataset009_Spleen", "ResidualEncoderL")) == 41
    # a line of the published file
    assert published_dice(HIPPOCAMPUS, NETWORKS[0]).loc["hippocampus_017", 1] == pytest.approx(0.9336857)


def test_the_mean_is_the_published_one():
    scores = published_dice(HIPPOCAMPUS, "ConvolutionalEncoder")
    mean = sum((anterior + posterior) / 2 for anterior, posterior in zip(scores[1], scores[2], strict=True)) / 260
    assert mean == pytest.approx(0.890, abs=5e-4)


def metrics(dice: float) -> MaskMetrics:
    return MaskMetrics(dice, dice, dice, 1.0)


def test_pairs_are_made_of_the_common_cases_alone():
    theirs = published_dice(HIPPOCAMPUS, "ConvolutionalEncoder").T
    ours = {
        case: {"Anterior": metrics(theirs[case][1] - 0.1), "Posterior": metrics(theirs[case][2] - 0.2)}
        for case in ("hippocampus_017", "hippocampus_019")
    }
    ours["hippocampus_999"] = {"Anterior": metrics(0.0), "Posterior": metrics(0.0)}
    (pair,) = pair_with_published(HIPPOCAMPUS, score_table({"ours": ours}), CLASSES, "ConvolutionalEncoder")
    assert (pair.n, pair.p) == (2, None)
    assert pair.dice - pair.published_dice == pytest.approx(-0.15)
    expected = (theirs["hippocampus_017"][1] + theirs["hippocampus_017"][2]) / 2
    expected += (theirs["hippocampus_019"][1] + theirs["hippocampus_019"][2]) / 2
    assert pair.published_dice == pytest.approx(expected / 2)


def test_what_was_not_published_is_named():
    strangers = score_table({"ours": {"case_1": {"Anterior": metrics(1), "Posterior": metrics(1)}}})
    with pytest.raises(UserError, match="Dataset001_Brain, only for Dataset004_Hippocampus"):
        pair_with_published("Dataset001_Brain", strangers, CLASSES, NETWORKS[0])
    with pytest.raises(UserError, match="none of the 1 cases is among the 260"):
        pair_with_published(HIPPOCAMPUS, strangers, CLASSES, NETWORKS[0])
    whole = score_table({"ours": {"hippocampus_017": {"whole": metrics(1)}}})
    with pytest.raises(UserError, match="with the same labels"):
        pair_with_published(HIPPOCAMPUS, whole, {"whole": (1, 2)}, NETWORKS[0])
