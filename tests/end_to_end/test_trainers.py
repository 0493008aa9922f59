"""Each trainer is found, builds, trains, saves, and predicts in a new process; SAM 2's weights are used once."""

import shutil

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2, sha256_of
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from tests.end_to_end.conftest import DATASET, SHAPE, WALK, Workplace, read_volume

TINY = "sam2.1_hiera_tiny"
OURS = "SAM2_3dMedTrainer"
TRAIN = ("nnUNetv2_train", "301", "3d", "0", "-device", "cpu", "-tr", OURS)


@pytest.fixture(scope="module")
def place(preprocessed) -> Workplace:
    """At 32 pixels, the smallest images."""
    preprocessed.run(*("sam2_3dmed", "plan", "-d", "301", "--image-size", "32", "--slices", "4", "--batch-size", "2"))
    return preprocessed


@pytest.fixture(scope="module")
def official(place) -> torch.nn.Module:
    """A network with the parameters of SAM 2's checkpoint, installed as the user's and as MedSAM2's."""
    out = place.run(*TRAIN, status=1)
    for part in (f"{TINY}.pt are not in", f"sam2_3dmed weights {TINY}", "SAM2_3dMedTrainer_noPretrain_tuned"):
        assert part in out
    network = build_sam2_base(TINY, 64)
    torch.save({"model": network.state_dict()}, place.root / "brought.pt")
    for name in (TINY, MEDSAM2):
        place.run("sam2_3dmed", "weights", "brought.pt", "--as", name)
    return network


def test_the_weights_are_needed_to_train_and_not_to_validate_or_predict(place, official, tmp_path):
    out = place.run(*WALK, "train", "301", f"3d:{OURS}")
    for component in ("image encoder", "segmentation branch, memory attention", "boundary branch, mask decoder"):
        assert f"{TINY}.pt -> {component}: " in out
    assert f"SHA-256 {sha256_of(place.root / 'brought.pt')}" in out

    fold = place.results(DATASET, OURS) / "fold_0"
    weights = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    for name, value in official.image_encoder.trunk.state_dict().items():
        assert torch.equal(weights[f"encoder.trunk.{name}"], value), "the trunk is frozen"
    assert any(
        not torch.equal(weights[f"encoder.neck.{name}"], value)
        for name, value in official.image_encoder.neck.state_dict().items()
    )

    (place.root / "weights").rename(place.root / "away")
    place.run(
        *("nnUNetv2_predict", "-d", "301", "-c", "3d", "-tr", OURS, "-f", "0", "-device", "cpu", "-npp", "0"),
        *("-nps", "0", "-i", str(place.root / "nnUNet_raw" / DATASET / "imagesTs"), "-o", str(tmp_path)),
    )
    assert _is_segmentation(tmp_path / "test_00.nii.gz")
    out = place.run(*TRAIN, "--val", "--val_best")
    assert (fold / "validation" / "summary.json").is_file() and "Epoch" not in out
    (place.root / "away").rename(place.root / "weights")


def test_every_other_trainer_trains_and_predicts(place, official, tmp_path):
    # baselines are trained by tests/baselines, and models with prompts by test_prompts.py
    names = [n for n in found_by_nnunet.__all__ if n.startswith((OURS, "SAM2_FinetuneTrainer")) and n != OURS]
    slices = {name: getattr(getattr(found_by_nnunet, name), "required_slices", None) for name in names}
    pairs = [f"3d_slices{count}:{name}" if count else f"3d:{name}" for name, count in slices.items()]
    image = place.root / "nnUNet_raw" / DATASET / "imagesTs" / "test_00_0000.nii.gz"
    weights, away = place.root / "weights", place.root / "weights_away"
    for some in (pairs[start : start + 9] for start in range(0, len(pairs), 9)):  # a few gigabytes at a time
        place.run(*WALK, "train", "301", *some)
        weights.rename(away)  # predicting must not need them
        place.run(*WALK, "predict", DATASET, str(image), str(tmp_path), *some, cwd=tmp_path)
        away.rename(weights)
        shutil.rmtree(place.root / "nnUNet_results" / DATASET)
    assert len(names) > 20 and all(_is_segmentation(tmp_path / f"{name}.nii.gz") for name in names)


def _is_segmentation(file) -> bool:
    segmentation = read_volume(file)
    return segmentation.shape == SHAPE and bool(np.isin(segmentation, [0, 1, 2]).all())
