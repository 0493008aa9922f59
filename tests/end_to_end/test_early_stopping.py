"""A training that no longer gets better stops, says why, and stays stopped."""

import torch

from tests.end_to_end.conftest import DATASET, TRAIN


def test_it_stops_says_why_and_does_not_go_on(planned):
    fold = planned.results(DATASET, "TinyTrainer_stopsEarly") / "fold_0"
    planned.run(*TRAIN, "TinyTrainer_stopsEarly", status=9, TINY_TRAINER_DIES_BEFORE_VALIDATION="1")
    log = "".join(file.read_text() for file in fold.glob("training_log*.txt"))
    assert "Training stopped early after" in log and "patience 1" in log
    logged = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)["logging"]
    epochs = len(logged["train_losses"])
    assert f"stopped early after {epochs} epochs" in logged["stopped_early"]
    assert logged["ema_fg_dice"][-1] <= logged["ema_fg_dice"][-2] and 2 <= epochs < 50
    assert not (fold / "validation" / "summary.json").exists()

    out = planned.run(*TRAIN, "TinyTrainer_stopsEarly", "--c")
    assert f"stopped early after {epochs} epochs" in out and "Epoch time" not in out
    assert (fold / "validation" / "summary.json").is_file()
