"""Options of `sam2_3dmed train`, which a process of torchrun passes on as `nnUNetv2_train` does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from nnunetv2.run import run_training

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[tuple]:
    """Record of what is called on the trainer, without training."""
    done: list[tuple] = []
    trainer = SimpleNamespace(
        output_folder="fold_0",
        do_split=lambda: None,
        run_training=lambda: done.append(("trained",)),
        load_checkpoint=lambda file: done.append(("loaded", file)),
        perform_actual_validation=lambda npz: done.append(("validated", npz)),
    )

    def get(dataset, configuration, fold, name, plans, go_on, device):
        done.append(("got", dataset, configuration, fold, name, plans, go_on, device))
        return trainer

    def get_as_nnunet(dataset, configuration, fold, name, plans, go_on, device=None):
        return get(dataset, configuration, fold, name, plans, go_on, device)

    def load(_, go_on, validate, weights=None):
        done.append(("checkpoint", go_on, validate))

    monkeypatch.setattr(run_training, "get_trainer_from_args", get_as_nnunet)
    monkeypatch.setattr(run_training, "maybe_load_checkpoint", load)
    monkeypatch.setattr(
        "nnunetv2.utilities.find_objects.recursive_find_trainer_class_by_name", lambda _: SAM2_3dMedTrainer
    )
    monkeypatch.setattr("nnunetv2_sam2_3dmed.nnunet.folders.dataset_name", lambda name: name)
    monkeypatch.setenv("WORLD_SIZE", "1")
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *_: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    return done


@pytest.mark.parametrize(
    "options", ["", "-p OtherPlans", "--c", "--val", "--val_best", "--npz", "--val --val_best --npz"], ids=str
)
@pytest.mark.parametrize("fold", ["3", "all"])
def test_options_are_passed_on_as_nnunet_s_own_command_does(calls, options, fold, monkeypatch):
    words = ["Dataset009_Spleen", "3d", fold, "-tr", "SAM2_3dMedTrainer_noBD", *options.split(), "-device", "cpu"]
    threads = torch.get_num_threads()
    monkeypatch.setattr("sys.argv", ["nnUNetv2_train", *words])
    run_training.run_training_entry()
    expected = calls.copy()
    calls.clear()
    assert main(["train", *words]) == 0
    torch.set_num_threads(threads)
    assert calls == expected and calls[0][3] == (3 if fold == "3" else "all")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--c", "--val"], "--c and --val cannot both be given"),
        (["-f"], None),
    ],
)
def test_what_does_not_go_together(calls, words, said, capsys):
    if said is None:
        assert main(["train", "Dataset009_Spleen", "3d", "zero"]) == 2
        assert "the fold is 'zero'" in capsys.readouterr().err
        return
    assert main(["train", "Dataset009_Spleen", "3d", "0", *words]) == 2
    assert said in capsys.readouterr().err and not calls


def test_it_is_started_by_torchrun(calls, monkeypatch, capsys):
    monkeypatch.delenv("WORLD_SIZE")
    assert main(["train", "Dataset009_Spleen", "3d", "0"]) == 2
    assert "is started by torchrun" in capsys.readouterr().err and not calls
