"""Labels found in preprocessed segmentations, written by nnU-Net itself, and the note of them."""

import errno
import json
import os

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy

from nnunetv2_sam2_3dmed import files
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet import preprocessed_labels
from nnunetv2_sam2_3dmed.nnunet.preprocessed_labels import (
    absent_classes,
    check_cases,
    labels_of_cases,
    preprocessed_cases,
    warning_of_absent_classes,
)

DATASET = {"labels": {"background": 0, "organ": 1, "lesion": 2}}


def write_case(folder, case, values, writer=nnUNetDatasetBlosc2, dtype=np.int16):
    """A segmentation of zeros with one voxel of each value, in several compressed chunks."""
    folder.mkdir(exist_ok=True)
    seg = np.zeros((1, 20, 12, 10), dtype=dtype)
    for place, value in enumerate(values):
        seg[0, -1 - place, place, 3] = value
    options = {"chunks": (1, 4, 12, 10), "blocks": (1, 4, 12, 10)} if writer is nnUNetDatasetBlosc2 else {}
    writer.save_case(np.zeros(seg.shape, np.float32), seg, {"spacing": [1, 1, 1]}, str(folder / case), **options)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "nnUNetPlans_3d_fullres"


@pytest.mark.parametrize("writer", [nnUNetDatasetBlosc2, nnUNetDatasetNumpy])
def test_every_value_is_found_but_the_mark_of_what_is_outside(folder, writer):
    write_case(folder, "a", [-1, 2, 300, -7], writer)
    write_case(folder, "b", [], writer, np.int8)
    assert preprocessed_cases(folder) == ["a", "b"]
    assert labels_of_cases(folder, ["b", "a", "a"]) == {"a": [-7, 0, 2, 300], "b": [0]}


def test_there_are_no_cases_where_there_is_no_folder(folder):
    assert preprocessed_cases(folder) == []


def test_what_was_noted_is_not_read_again(folder, monkeypatch):
    for case in ("a", "b"):
        write_case(folder, case, [1])
    assert labels_of_cases(folder, ["a", "b"]) == {"a": [0, 1], "b": [0, 1]}
    read = []
    values = preprocessed_labels._values
    monkeypatch.setattr(preprocessed_labels, "_values", lambda where, case: read.append(case) or values(where, case))
    labels_of_cases(folder, ["a", "b"])
    assert read == []
    for file in folder.glob("b*"):
        file.unlink()
    write_case(folder, "b", [1, 2])
    write_case(folder, "c", [2])
    os.utime(folder / "c_seg.b2nd", ns=(1, 1))
    assert labels_of_cases(folder, ["a", "b", "c"]) == {"a": [0, 1], "b": [0, 1, 2], "c": [0, 2]}
    assert read == ["b", "c"]
    # nnU-Net takes no other kind of file in the folder itself
    assert sorted({file.suffix for file in folder.iterdir()}) == [".b2nd", ".pkl"]
    assert [file.name for file in folder.parent.glob("*.json")] == ["nnUNetPlans_3d_fullres.labels.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"file": 3, "labels": []}}'])
def test_a_damaged_note_is_made_anew(folder, content):
    write_case(folder, "a", [2])
    note = folder.with_name("nnUNetPlans_3d_fullres.labels.json")
    note.write_text(content)
    assert labels_of_cases(folder, ["a"]) == {"a": [0, 2]}
    assert json.loads(note.read_text())["a"]["labels"] == [0, 2]


def test_data_that_may_only_be_read_need_no_note(folder, monkeypatch):
    def refuse(beside, path):
        raise PermissionError(errno.EROFS, "Read-only file system", path)

    write_case(folder, "a", [2])
    monkeypatch.setattr(files.os, "replace", refuse)
    assert labels_of_cases(folder, ["a"]) == {"a": [0, 2]}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("ending", ["_seg.b2nd", ".b2nd", ".pkl"])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_case_that_broke_off_is_told(folder, ending, share):
    write_case(folder, "a", np.random.default_rng(0).integers(0, 3, 12).tolist())
    file = folder / f"a{ending}"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"a_seg\.b2nd or what belongs to it cannot be read"):
        labels_of_cases(folder, ["a"])


def test_a_case_that_is_not_there_is_told(folder):
    folder.mkdir()
    with pytest.raises(UserError, match="the case gone is needed: run nnUNetv2_preprocess"):
        labels_of_cases(folder, ["gone"])


def test_undeclared_values_are_refused_with_their_case():
    check_cases("D", DATASET, {"a": [0, 1], "b": [0, 2]})
    with pytest.raises(UserError, match=r"the case b of D holds the label 3, but dataset.json declares 0, 1, 2:"):
        check_cases("D", DATASET, {"a": [0, 1], "b": [0, 3]})
    with pytest.raises(UserError, match=r"case b of D holds the label -7, 3, 4 and 1 more, as do 1 other cases"):
        check_cases("D", DATASET, {"b": [-7, 0, 3, 4, 5], "c": [3]})
    ignore = {"labels": {**DATASET["labels"], "ignore": 3}}
    check_cases("D", ignore, {"b": [0, 3]})


def test_classes_without_a_voxel_are_told():
    assert absent_classes(DATASET, {"a": [0, 1], "b": [0]}) == ["lesion"]
    assert absent_classes(DATASET, {"a": [0, 1], "b": [2]}) == []
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}}
    assert absent_classes(regions, {"a": [0, 1, 3]}) == ["core"]
    told = warning_of_absent_classes("D", DATASET, {"a": [0, 1]}, "training cases of fold 0")
    assert told == "None of the 1 training cases of fold 0 of D holds any voxel of lesion, which cannot be learned."
    assert warning_of_absent_classes("D", DATASET, {"a": [0, 1, 2]}, "cases") is None
    with pytest.raises(UserError, match="none of the 2 cases of D holds any voxel of organ, lesion"):
        warning_of_absent_classes("D", DATASET, {"a": [0], "b": [0]}, "cases")
