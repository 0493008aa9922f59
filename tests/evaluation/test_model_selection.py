import json

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.model_selection import chosen_by_scored_cases, selection_note
from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown
from nnunetv2_sam2_3dmed.training.inner_split import InnerSplit


@pytest.fixture
def methods(tmp_path, write_labels):
    """A model of fold 0, one with an inner split, and a folder of predictions."""
    labels = np.zeros((3, 4, 5))
    labels[1, 1:3, 1:3] = 1
    usual, inner = (tmp_path / name / "fold_0" / "validation" for name in ("usual", "inner"))
    for folder in (tmp_path / "truth", usual, inner, tmp_path / "held_out"):
        write_labels(folder / "a.nii.gz", labels)
    InnerSplit(["b", "c"], ["d"]).write(inner.parent)
    return {"usual": [usual], "inner": [inner], "held out": [tmp_path / "held_out"]}


def compared(methods, tmp_path):
    dataset = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    return compare(methods, tmp_path / "truth", dataset, tmp_path / "out", processes=1, progress=False)


def test_models_that_were_chosen_by_the_scored_cases_are_named(methods, tmp_path):
    assert chosen_by_scored_cases(methods) == ["usual"]
    # one of two folds without an inner split suffices
    both = {"both": [methods["inner"][0], methods["usual"][0]]}
    assert chosen_by_scored_cases(both) == ["both"]
    # a copy that --val_best does not replace
    assert chosen_by_scored_cases({"copy": [methods["usual"][0].with_name("validation_last")]}) == ["copy"]

    comparison = compared(methods, tmp_path)
    (note,) = comparison.notes
    assert "fold's validation cases, which are scored here, for usual; only" in note
    assert note in as_markdown(comparison)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["notes"] == [note]


def test_nothing_is_said_of_models_that_were_not(methods, tmp_path):
    del methods["usual"]
    comparison = compared(methods, tmp_path)
    assert comparison.notes == [] and "Early stopping" not in as_markdown(comparison)


def test_the_note_names_all_of_them():
    assert "for one, two; only trainers with an inner split" in selection_note(["one", "two"])
