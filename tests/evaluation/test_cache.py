"""Scores from the cache equal computed ones, and nothing that has changed is taken from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation import cache, cases
from nnunetv2_sam2_3dmed.evaluation.cache import CachedEvaluator
from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, ComparedCase

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.fixture
def case(tmp_path, write_labels) -> ComparedCase:
    truth = np.zeros((6, 8, 10))
    truth[1:4, 2:6, 3:8] = 1
    truth[4, 4, 4] = 2
    files = {}
    for name, shift in (("truth", 0), ("a", 1), ("b", 2)):
        labels = np.roll(truth, shift, axis=2)
        if name == "b":
            labels[labels == 2] = 0  # missed: HD95 is NaN
        files[name] = write_labels(tmp_path / f"{name}.nii.gz", labels, (2.5, 0.7, 0.9))
    return ComparedCase("case", files["truth"], {"a": files["a"], "b": files["b"]})


@pytest.fixture
def evaluator(tmp_path) -> CachedEvaluator:
    evaluator = CaseEvaluator({"organ": (1,), "vessel": (2,)}, None, SimpleITKIO(), 1.0)
    return CachedEvaluator(evaluator, tmp_path / "cache")


@pytest.fixture
def computed(monkeypatch) -> list[Path]:
    """The files that were read, in order."""
    read = []
    original = cases.read_segmentation

    def reading(file, reader):
        read.append(file)
        return original(file, reader)

    monkeypatch.setattr(cases, "read_segmentation", reading)
    return read


def test_the_second_time_no_image_is_read_and_the_scores_are_the_same(case, evaluator, computed):
    first = evaluator(case)
    assert first.scores["b"]["vessel"].failed
    assert computed == [case.gt, *case.predictions.values()]
    computed.clear()
    # NaN is not equal to itself, its text is
    assert repr(evaluator(case)) == repr(first) == repr(evaluator.evaluator(case))
    assert computed == [case.gt, *case.predictions.values()]  # of the last, which has no cache


def test_only_what_is_new_is_computed(case, evaluator, computed, write_labels):
    only_a = ComparedCase(case.name, case.gt, {"a": case.predictions["a"]})
    evaluator(only_a)
    computed.clear()
    scores = evaluator(case).scores
    assert computed == [case.gt, case.predictions["b"]]
    assert list(scores) == ["a", "b"]
    # contents count, not names and dates
    computed.clear()
    renamed = case.predictions["a"].with_name("renamed.nii.gz")
    renamed.write_bytes(case.predictions["a"].read_bytes())
    assert repr(evaluator(ComparedCase("other", case.gt, {"z": renamed})).scores["z"]) == repr(scores["a"])
    assert computed == []


@pytest.mark.parametrize("changed", ["truth", "a"])
def test_a_replaced_file_is_scored_anew(case, evaluator, write_labels, changed):
    evaluator(case)
    file = case.gt if changed == "truth" else case.predictions["a"]
    write_labels(file, np.ones((6, 8, 10)), (2.5, 0.7, 0.9))
    scores = evaluator(case)
    assert repr(scores) == repr(evaluator.evaluator(case))
    assert scores.scores["a"]["organ"].dice != 1


@pytest.mark.parametrize(
    "change",
    [
        {"tolerance_mm": 0.0},
        {"classes": {"organ": (1, 2), "vessel": (2,)}},
        {"ignore_label": 2},
        {"reader": NibabelIO()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_else_changes_is_scored_anew(case, evaluator, computed, change):
    evaluator(case)
    computed.clear()
    evaluator_2 = replace(evaluator, evaluator=replace(evaluator.evaluator, **change))
    assert repr(evaluator_2(case)) == repr(evaluator_2.evaluator(case))
    assert len(computed) == 6  # three by each


def test_changed_code_or_library_is_scored_anew(case, evaluator, computed, monkeypatch):
    evaluator(case)
    computed.clear()
    for newer in ("scipy", "simpleitk"):
        monkeypatch.setattr(cache, "version", lambda package, newer=newer: "2.0" if package == newer else "1.0")
        cache._metric_code.cache_clear()
        computed.clear()
        evaluator(case)
        assert len(computed) == 3
    monkeypatch.setattr(cache, "_CODE", cache._CODE[1:])
    cache._metric_code.cache_clear()
    computed.clear()
    evaluator(case)
    assert len(computed) == 3
    monkeypatch.undo()
    cache._metric_code.cache_clear()


def test_scores_of_a_file_that_was_replaced_while_it_was_read_are_not_kept(case, evaluator, write_labels, monkeypatch):
    original = cases.read_segmentation

    def reading(file, reader):
        read = original(file, reader)
        if file == case.predictions["a"]:
            write_labels(file, np.ones((6, 8, 10)), (2.5, 0.7, 0.9))
        return read

    monkeypatch.setattr(cases, "read_segmentation", reading)
    evaluator(case)
    assert len(list(evaluator.folder.iterdir())) == 1  # that of b


def test_another_grid_is_refused_though_the_case_was_cached(case, evaluator, write_labels):
    evaluator(case)
    write_labels(case.predictions["b"], np.ones((6, 8, 10)), (2.5, 0.7, 0.9), origin=(5, 0, 0))
    for _ in range(2):  # nor is a refusal kept as a score
        with pytest.raises(UserError, match="b.nii.gz has origin"):
            evaluator(case)
    write_labels(case.gt, np.ones((6, 8, 9)), (2.5, 0.7, 0.9))
    with pytest.raises(UserError, match="a.nii.gz has shape"):
        evaluator(case)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"organ": [1, 1]}', '{"organ": [1, 1, 1, "x"]}', "\x00"])
def test_a_damaged_entry_is_computed_again_and_mended(case, evaluator, computed, damage):
    expected = repr(evaluator(case))
    entries = sorted(evaluator.folder.iterdir())
    assert len(entries) == 2
    contents = [entry.read_text() for entry in entries]
    for entry in entries:
        entry.write_text(damage)
    computed.clear()
    assert repr(evaluator(case)) == expected
    assert len(computed) == 3
    assert sorted(evaluator.folder.iterdir()) == entries  # nothing half written lies about
    assert [entry.read_text() for entry in entries] == contents


def test_an_interrupted_run_keeps_what_was_done(case, evaluator, computed, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    evaluator(case)
    with pytest.raises(UserError):
        evaluator(ComparedCase("next", case.gt, {"a": broken}))
    computed.clear()
    evaluator(case)
    assert computed == []


def test_the_spacing_that_lies_beside_a_tiff_counts(tmp_path):
    file = tmp_path / "case.1.tif"
    file.write_bytes(b"voxels")
    (tmp_path / "case.1.json").write_text('{"spacing": [1, 1, 1]}')
    before = cache._digest(file)
    (tmp_path / "case.1.json").write_text('{"spacing": [2, 1, 1]}')
    assert cache._digest(file) != before
