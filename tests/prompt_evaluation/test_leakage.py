"""Warnings about models that may have been trained on the cases they are measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.nnunet.sources import KEY, Source, Sources
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import (
    PUBLIC_WEIGHTS,
    leakage_warnings,
    reason_for_leakage,
    with_cases,
)

DATASET = "Dataset009_Spleen"
ALONE = Sources()  # of a dataset that was not merged
SPLITS = [{"train": ["c", "d"], "val": ["a", "b"]}]


@pytest.fixture
def said(tmp_path):
    """Checkpoint of nnU-Net."""

    def said(fold, names, splits=SPLITS, dataset=DATASET) -> list[str]:
        file = tmp_path / "checkpoint_final.pth"
        plans = {"dataset_name": dataset}
        torch.save({"network_weights": {}, "init_args": {"plans": plans, "fold": fold}}, file)
        return leakage_warnings(file, "0" * 64, DATASET, names, splits, ALONE)

    return said


def test_a_checkpoint_of_nnunet_knows_its_cases(said):
    assert said(0, ["a", "b"]) == []
    assert said(0, ["a", "d"])[0].startswith("1 of these 2 cases (d) are not among the validation cases of fold 0")
    assert "trained on all cases of Dataset009_Spleen" in said("all", ["a"])[0]
    assert "some of these cases may be its training cases" in said(1, ["a"])[0]
    assert "some of these cases may be its training cases" in said(0, ["a"], splits=None)[0]
    assert said(0, ["c"], dataset="Dataset010_Colon") == []


def test_a_model_of_a_merged_dataset_knows_those_that_it_was_made_of(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    merged = tuple(Source(name, 1, False, ()) for name in (DATASET, "Dataset020_Echo"))
    arguments = {
        "plans": {"dataset_name": "Dataset030_All"},
        "fold": 0,
        "dataset_json": {KEY: Sources(merged=merged).noted()},
    }
    torch.save({"network_weights": {}, "init_args": arguments}, file)
    assert leakage_warnings(file, "0" * 64, DATASET, ["a", "b"], SPLITS, ALONE) == []
    assert leakage_warnings(file, "0" * 64, DATASET, ["a", "c"], SPLITS, ALONE)[0].startswith("1 of these 2 cases (c)")
    assert leakage_warnings(file, "0" * 64, "Dataset010_Colon", ["c"], SPLITS, ALONE) == []


def test_training_cases_are_known_by_the_dataset_that_they_come_from(tmp_path):
    """Whatever the folds are now, and from a merged dataset to its parts, back, and to another merged one."""
    all_in_one = Sources(
        merged=(
            Source(DATASET, 1, False, ("Spleen_a", "Spleen_b", "Spleen_c")),
            Source("Dataset010_Colon", 3, False, ("Colon_a",)),
        )
    )
    other = Sources(merged=(Source(DATASET, 1, False, ("Dataset009_Spleen_a", "Dataset009_Spleen_c")),))
    file = tmp_path / "checkpoint_final.pth"

    def of(trained_on, own, dataset, names, sources) -> list[str]:
        arguments = {"plans": {"dataset_name": own}, "fold": 0, "trained_on": trained_on}
        if own == "Dataset030_All":
            arguments["dataset_json"] = {KEY: all_in_one.noted()}
        torch.save({"network_weights": {}, "init_args": arguments}, file)
        return leakage_warnings(file, "0" * 64, dataset, names, SPLITS, sources)

    merged = with_cases({}, "Dataset030_All", ["Spleen_c", "Colon_a", "new"], all_in_one)
    assert merged == {"Dataset009_Spleen": ["c"], "Dataset010_Colon": ["a"], "Dataset030_All": ["new"]}
    assert of(merged, "Dataset030_All", DATASET, ["a", "b"], ALONE) == []
    (reason,) = of(merged, "Dataset030_All", DATASET, ["a", "b", "c"], ALONE)
    assert reason.startswith("the model was trained on 1 of these 3 cases (c)")
    assert of(merged, "Dataset030_All", "Dataset031_Some", ["Dataset009_Spleen_a"], other) == []
    (reason,) = of(merged, "Dataset030_All", "Dataset031_Some", list(other.merged[0].cases), other)
    assert "1 of these 2 cases (Dataset009_Spleen_c)" in reason
    # its own dataset.json no longer says that it was merged
    assert (
        "(Spleen_c, new)" in of(merged, "Dataset030_All", "Dataset030_All", ["Spleen_a", "Spleen_c", "new"], ALONE)[0]
    )

    part = with_cases({"Dataset010_Colon": ["b"]}, DATASET, ["d", "b"], ALONE)
    assert part == {"Dataset009_Spleen": ["b", "d"], "Dataset010_Colon": ["b"]}
    assert "(Spleen_b)" in of(part, DATASET, "Dataset030_All", ["Spleen_a", "Spleen_b", "Colon_a"], all_in_one)[0]
    assert of(part, DATASET, "Dataset030_All", ["Spleen_a", "Colon_a"], all_in_one) == []


def test_an_unknown_start_stays_unknown_and_an_earlier_reason_ends_where_cases_are_named(tmp_path):
    file = tmp_path / "checkpoint_final.pth"

    def of(cases, **noted) -> list[str]:
        arguments = {"plans": {"dataset_name": DATASET}, "fold": 0, "trained_on": {DATASET: ["c"]}, **noted}
        arguments["finetuned"] = {"seen_validation": "it had seen b."}
        torch.save({"network_weights": {}, "init_args": arguments}, file)
        return leakage_warnings(file, "0" * 64, DATASET, cases, SPLITS, ALONE)

    assert of(["a"]) == []
    assert of(["a"], unknown_start=True) == [PUBLIC_WEIGHTS, "it had seen b."]
    (reason,) = of(["a"], given_weights=True)
    assert "given with -pretrained_weights" in reason and reason_for_leakage(file, [reason], True) == reason
    assert of(["c"], unknown_start=False)[0].startswith("the model was trained on 1 of these 1 cases (c)")


def test_published_weights_may_have_seen_anything_but_sam2s(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save({"model": {}}, file)
    assert leakage_warnings(file, "0" * 64, DATASET, ["a"], SPLITS, ALONE) == [PUBLIC_WEIGHTS]
    official = CHECKPOINTS["sam2.1_hiera_large"].sha256
    assert official is not None and leakage_warnings(file, official, DATASET, ["a"], SPLITS, ALONE) == []


def test_a_fine_tuned_model_knows_what_its_starting_point_was_trained_on(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    for dataset, reasons in ((DATASET, ["the model was trained on all cases"]), ("Dataset010_Colon", [])):
        arguments = {
            "plans": {"dataset_name": dataset},
            "fold": 0,
            "finetuned": {"seen_validation": "the model was trained on all cases"},
        }
        torch.save({"network_weights": {}, "init_args": arguments}, file)
        assert leakage_warnings(file, "0" * 64, DATASET, ["a", "b"], SPLITS, ALONE) == reasons


def test_only_a_reason_that_is_allowed_lets_a_fine_tuning_start():
    file = Path("a.pth")
    assert reason_for_leakage(file, [], False) == reason_for_leakage(file, [PUBLIC_WEIGHTS], False) == ""
    with pytest.raises(
        UserError, match=r"a.pth may have been trained on the validation cases \(seen\).*--seen-validation"
    ):
        reason_for_leakage(file, [PUBLIC_WEIGHTS, "seen."], False)
    assert reason_for_leakage(file, [PUBLIC_WEIGHTS, "seen."], True) == "seen."
