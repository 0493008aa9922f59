"""Regions, the ignore label and two input channels, in one dataset."""

import json

from tests.end_to_end.conftest import PLAN, TRAIN, TRAINER, read_volume, write_dataset

DATASET = "Dataset302_TinyRegions"


def test_regions_ignore_label_and_two_channels(workplace, tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    extra = {"regions_class_order": [1, 2]}
    write_dataset(workplace.root / "nnUNet_raw" / DATASET, 2, labels, extra, ignore=3, cases=5)
    workplace.run("nnUNetv2_plan_and_preprocess", "-d", "302", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    workplace.run(*PLAN, "302")
    plans = json.loads((workplace.root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    assert plans["configurations"]["3d"]["architecture"]["arch_kwargs"]["regions"] is True
    workplace.run("nnUNetv2_train", "302", *TRAIN[2:], TRAINER)
    fold = workplace.results(DATASET, TRAINER) / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"(1, 2)", "2"}
    workplace.run(
        *("nnUNetv2_predict", "-d", "302", "-c", "3d", "-tr", TRAINER, "-f", "0", "-device", "cpu", "-npp", "0"),
        *("-nps", "0", "-i", str(workplace.root / "nnUNet_raw" / DATASET / "imagesTs"), "-o", str(tmp_path)),
    )
    assert set(read_volume(tmp_path / "test_00.nii.gz").ravel()) <= {0, 1, 2}
    table = workplace.run("sam2_3dmed", "compare", "-d", "302", "-m", fold.parent.name)
    assert "whole" in table and "core" in table and "ignore" in table.lower()
