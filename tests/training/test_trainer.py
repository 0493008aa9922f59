from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_third_of_the_stacks_shows_foreground_in_batches_of_one_too(make_trainer, batch_size):
    """nnU-Net's loader rounds the share of a batch down, to none of one, unless it draws for each stack."""
    trainer = make_trainer(SAM2_3dMedTrainer, ["a", "b"], ["c"], batch_size)
    loader = SimpleNamespace(batch_size=batch_size, oversample_foreground_percent=trainer.oversample_foreground_percent)
    decide = (
        nnUNetDataLoader._probabilistic_oversampling
        if trainer.probabilistic_oversampling
        else nnUNetDataLoader._oversample_last_XX_percent
    )
    np.random.seed(0)
    forced = [decide(loader, place) for _ in range(3000) for place in range(batch_size)]
    assert np.mean(forced) == pytest.approx({1: 0.33, 2: 0.5}[batch_size], abs=0.03)
