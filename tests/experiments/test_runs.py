"""State of a run, and the stock command that takes it on."""

from __future__ import annotations

import os
import shlex

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun, list_runs, set_torn_aside
from nnunetv2_sam2_3dmed.experiments.specification import Method, Specification
from tests.experiments.conftest import write_checkpoint, write_summary


def test_from_nothing_to_done(run, results):
    fold = results / "Dataset009_Spleen" / "SAM2_3dMedTrainer__nnUNetPlans__3d" / "fold_2"
    assert run.state(results) is RunState.WAITING
    write_checkpoint(fold / "checkpoint_best.pth")
    assert run.state(results) is RunState.STARTED
    write_checkpoint(fold / "checkpoint_final.pth")
    assert run.state(results) is RunState.TRAINED
    write_summary(fold)
    assert run.state(results) is RunState.DONE


def test_a_summary_cut_short_or_of_an_earlier_training_is_none(run, results):
    fold = run.folder(results)
    write_checkpoint(fold / "checkpoint_final.pth")
    write_summary(fold)
    summary = fold / "validation" / "summary.json"
    text = summary.read_text()
    summary.write_text(text[:10])
    assert run.state(results) is RunState.TRAINED
    summary.write_text(text)
    os.utime(summary, (1e9, 1e9))
    assert run.state(results) is RunState.TRAINED


def test_torn_checkpoints_are_set_aside(run, results):
    fold = run.folder(results)
    write_checkpoint(fold / "checkpoint_final.pth", whole=False)
    write_checkpoint(fold / "checkpoint_latest.pth", whole=False)
    assert run.state(results) is RunState.WAITING
    write_checkpoint(fold / "checkpoint_best.pth")
    assert run.state(results) is RunState.STARTED
    assert set_torn_aside(fold) == ["checkpoint_final.pth", "checkpoint_latest.pth"]
    assert sorted(path.name for path in fold.iterdir()) == [
        "checkpoint_best.pth",
        "checkpoint_final.pth.torn",
        "checkpoint_latest.pth.torn",
    ]


@pytest.mark.parametrize(
    ("state", "ending"), [(RunState.WAITING, ""), (RunState.STARTED, " --c"), (RunState.TRAINED, " --val")]
)
def test_commands(run, state, ending):
    command = "nnUNetv2_train 9 3d 2 -tr SAM2_3dMedTrainer -p nnUNetPlans -device cuda" + ending
    assert run.command("cuda", state) == shlex.split(command)


def test_a_path_names_a_run(run):
    assert run.path == "Dataset009_Spleen/SAM2_3dMedTrainer__nnUNetPlans__3d/fold_2"
    assert TrainingRun.from_path(run.path) == run
    for path in ("Dataset009_Spleen/fold_2", "a/b__c/fold_0", "a/b__c__d/fold_all"):
        with pytest.raises(UserError, match="expected DATASET/TRAINER__PLANS__CONFIG/fold_N"):
            TrainingRun.from_path(path)


def test_methods_take_turns():
    methods = (Method("A", "3d"), Method("B", "3d"))
    specification = Specification("name", ("1",), (0, 1), methods, seeds=(5, 6))
    order = [(run.method.trainer, run.fold) for run in list_runs(specification, ["Dataset001_X"])]
    assert order == [
        *(("A_seed5", 0), ("B_seed5", 0), ("A_seed5", 1), ("B_seed5", 1)),
        *(("A_seed6", 0), ("B_seed6", 0), ("A_seed6", 1), ("B_seed6", 1)),
    ]
