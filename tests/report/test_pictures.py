from __future__ import annotations

from nnunetv2_sam2_3dmed.report.pictures import label_names, wrapped


def test_labels_are_named_by_their_class_or_by_all_their_regions():
    assert label_names({"liver": (1,), "cyst": (2,)}) == {1: "liver", 2: "cyst"}
    assert label_names({"tumour": (1, 2, 3), "core": (2, 3), "active": (3,)}) == {
        1: "tumour",
        2: "tumour, core",
        3: "tumour, core, active",
    }


def test_labels_are_broken_at_spaces_and_after_underscores():
    assert wrapped("nnUNetTrainer · 3d", 20) == "nnUNetTrainer · 3d"
    assert wrapped("SAM2_3dMedTrainer_noSRPP · 3d", 20) == "SAM2_3dMedTrainer_\nnoSRPP · 3d"
