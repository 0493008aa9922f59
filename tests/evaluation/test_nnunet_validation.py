"""Comparison with files that nnU-Net's own evaluation wrote, and the note on models chosen by the scored cases."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, ComparedCase
from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.comparison_files import comparison_markdown
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.evaluation.nnunet_validation import check_summaries, chosen_by_scored_cases, selection_note
from nnunetv2_sam2_3dmed.evaluation.scores import score_table
from nnunetv2_sam2_3dmed.training.inner_split import InnerSplit

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

LABELS = {"labels": {"background": 0, "organ": 1, "tumour": 2, "rare": 3}}
IGNORING = {"labels": {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
    "regions_class_order": [1, 2],
}


@pytest.fixture
def validated(tmp_path, write_labels):
    """Two cases that nnU-Net has evaluated; label 3 is in the truth of one and in no prediction."""

    def validate(dataset_json: dict) -> tuple[list[ComparedCase], dict, dict]:
        rng = np.random.default_rng(0)
        cases = []
        for name in ("case_1", "case_2"):
            truth = rng.integers(0, 3, size=(5, 6, 7))
            prediction = np.where(rng.random(truth.shape) < 0.8, truth, 0)
            if name == "case_1":
                truth[:, :, 5:] = 3
            files = [write_labels(tmp_path / f / f"{name}.nii.gz", v) for f, v in (("gt", truth), ("x", prediction))]
            cases.append(ComparedCase(name, files[0], {"x": files[1]}))
        classes, ignored = foreground_classes(dataset_json), ignore_label(dataset_json)
        regions = [values if "regions_class_order" in dataset_json else values[0] for values in classes.values()]
        metrics = [compute_metrics(str(c.gt), str(c.predictions["x"]), SimpleITKIO(), regions, ignored) for c in cases]
        for entry in metrics:  # as nnU-Net does
            recursive_fix_for_json_export(entry)
        save_summary_json(
            {"metric_per_case": metrics, "mean": {}, "foreground_mean": {}}, str(tmp_path / "x" / "summary.json")
        )
        evaluator = CaseEvaluator(classes, ignored, SimpleITKIO(), 1.0)
        return cases, {"x": {case.name: evaluator(case).scores["x"] for case in cases}}, classes

    return validate


@pytest.mark.parametrize("dataset_json", [LABELS, IGNORING, REGIONS], ids=["labels", "ignore label", "regions"])
def test_what_nnunet_computed_is_what_we_compute(validated, dataset_json, tmp_path):
    cases, scores, classes = validated(dataset_json)
    digest = hashlib.sha256((tmp_path / "x" / "summary.json").read_bytes()).hexdigest()
    (check,) = check_summaries(cases, score_table(scores), classes)
    assert (check.method, check.n, list(check.differing), check.warning) == ("x", 2, [], None)
    assert check.largest < 1e-12
    assert hashlib.sha256((tmp_path / "x" / "summary.json").read_bytes()).hexdigest() == digest
    if dataset_json is LABELS:  # both masks of "rare" are empty in case_2, for which nnU-Net writes NaN
        assert "NaN" in (tmp_path / "x" / "summary.json").read_text()


def test_stale_predictions_are_named_in_one_sentence(validated, write_labels):
    cases, scores, classes = validated(REGIONS)
    file = cases[1].predictions["x"]
    write_labels(file, np.ones((5, 6, 7)))
    scores["x"]["case_2"] = CaseEvaluator(classes, 3, SimpleITKIO(), 1.0)(cases[1]).scores["x"]
    (check,) = check_summaries(cases, score_table(scores), classes)
    assert list(check.differing) == ["case_2"]
    assert check.warning.startswith("Dice or IoU of 1 of 2 cases of x (such as case_2) differ by up to ")
    assert check.warning.count(". ") == 0 and check.warning.endswith(".")


def test_an_empty_prediction_where_there_was_none_to_find_is_a_difference(validated):
    # nnU-Net saw two empty masks (NaN), we see one: the files cannot be the same
    cases, scores, classes = validated(LABELS)
    scores["x"]["case_2"]["rare"] = scores["x"]["case_1"]["rare"]
    assert scores["x"]["case_2"]["rare"].failed
    (check,) = check_summaries(cases, score_table(scores), classes)
    assert (list(check.differing), check.largest) == (["case_2"], 1)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"metric_per_case": [{"metrics": {}}]}'])
def test_a_file_that_is_no_summary_is_named(validated, tmp_path, content):
    cases, scores, classes = validated(LABELS)
    (tmp_path / "x" / "summary.json").write_text(content)
    (check,) = check_summaries(cases, score_table(scores), classes)
    assert (check.n, list(check.unreadable)) == (0, [tmp_path / "x" / "summary.json"])
    assert check.warning.startswith(f"{tmp_path / 'x' / 'summary.json'} cannot be read")


def test_other_classes_and_cases_are_left_alone(validated, tmp_path):
    cases, scores, _ = validated(LABELS)
    for by_class in scores["x"].values():
        by_class["both"] = by_class["organ"]
    (check,) = check_summaries(cases[:1], score_table(scores), {"both": (1, 2)})
    assert (check.n, check.warning) == (0, None)
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    summary["metric_per_case"] = summary["metric_per_case"][1:]
    (tmp_path / "x" / "summary.json").write_text(json.dumps(summary))
    (check,) = check_summaries(cases, score_table(scores), {"organ": (1,)})
    assert check.n == 1


def test_without_a_summary_there_is_no_check(validated, tmp_path):
    cases, scores, classes = validated(LABELS)
    (tmp_path / "x" / "summary.json").unlink()
    assert check_summaries(cases, score_table(scores), classes) == []


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
    assert note in comparison_markdown(comparison)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["notes"] == [note]


def test_nothing_is_said_of_models_that_were_not(methods, tmp_path):
    del methods["usual"]
    comparison = compared(methods, tmp_path)
    assert comparison.notes == [] and "Early stopping" not in comparison_markdown(comparison)


def test_the_note_names_all_of_them():
    assert "for one, two; only trainers with an inner split" in selection_note(["one", "two"])
