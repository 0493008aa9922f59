import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.tolerance import nsd_tolerance


@pytest.mark.parametrize(
    ("dataset", "mm"),
    [
        # Antonelli et al. 2022, Methods, "Metrics": brain 5, heart 4, hippocampus 1, liver 7, lung 2, prostate 4,
        # pancreas 5, colon 4, hepatic vessel 3, spleen 3
        ("Dataset001_BrainTumour", 5),
        ("Dataset002_Heart", 4),
        ("Dataset003_Liver", 7),
        ("Dataset004_Hippocampus", 1),
        ("Dataset005_Prostate", 4),
        ("Dataset006_Lung", 2),
        ("Dataset007_Pancreas", 5),
        ("Dataset008_HepaticVessel", 3),
        ("Dataset909_Spleen", 3),  # whatever its number
        ("Dataset010_Colon", 4),
    ],
)
def test_msd_tasks_have_their_own_by_name(dataset, mm):
    tolerance = nsd_tolerance(dataset)
    assert tolerance.mm == mm
    assert "Medical Segmentation Decathlon" in tolerance.source and dataset.split("_")[1] in tolerance.source


@pytest.mark.parametrize(
    "dataset", ["Dataset009_MySpleen", "Dataset009_Spleen_v2", "Spleen", "Dataset090_SyntheticCT", None]
)
def test_all_others_have_two_millimetres(dataset):
    assert (nsd_tolerance(dataset).mm, nsd_tolerance(dataset).source) == (2, "the default")


def test_what_is_asked_for_goes_first():
    assert (nsd_tolerance("Dataset004_Hippocampus", 0).mm, nsd_tolerance(None, 2.5).mm) == (0, 2.5)
    assert nsd_tolerance("Dataset004_Hippocampus", 2).source == "as asked for"


@pytest.mark.parametrize("stated", [-1.0, float("nan"), float("inf")])
def test_no_distance_is_refused(stated):
    with pytest.raises(UserError, match=f"the NSD tolerance is {stated} mm"):
        nsd_tolerance(None, stated)
