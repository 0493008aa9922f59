"""SAM 2's weights are installed, trained with, and not needed afterwards."""

import shutil

import torch

from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from tests.end_to_end.conftest import DATASET, TRAIN

TINY = "sam2.1_hiera_tiny"


def test_pretrained_weights_are_needed_to_train_and_not_to_predict(planned, tmp_path):
    out = planned.run(*TRAIN, "TinyTrainer", status=1)
    for part in (f"{TINY}.pt are not in", f"sam2_3dmed weights {TINY}", "SAM2_3dMedTrainer_noPretrain_tuned"):
        assert part in out

    official = build_sam2_base(TINY, 64)
    torch.save({"model": official.state_dict()}, tmp_path / "brought.pt")
    planned.run("sam2_3dmed", "weights", str(tmp_path / "brought.pt"), "--as", TINY)
    out = planned.run(*TRAIN, "TinyTrainer")
    for component in ("image encoder", "segmentation branch, memory attention", "boundary branch, mask decoder"):
        assert f"{TINY}.pt -> {component}: " in out
    assert f"SHA-256 {sha256_of(tmp_path / 'brought.pt')}" in out
    shutil.rmtree(planned.root / "weights")

    fold = planned.results(DATASET, "TinyTrainer") / "fold_0"
    weights = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    for name, value in official.image_encoder.trunk.state_dict().items():
        assert torch.equal(weights[f"encoder.trunk.{name}"], value), "the trunk is frozen"
    assert any(
        not torch.equal(weights[f"encoder.neck.{name}"], value)
        for name, value in official.image_encoder.neck.state_dict().items()
    )
    images = str(planned.root / "nnUNet_raw" / DATASET / "imagesTs")
    planned.run(
        *("nnUNetv2_predict", "-d", "301", "-c", "3d", "-tr", "TinyTrainer", "-f", "0", "-device", "cpu"),
        *("-i", images, "-o", str(tmp_path / "out")),
    )
    assert (tmp_path / "out" / "test_00.nii.gz").is_file()
    planned.run(*TRAIN, "TinyTrainer", "--val")
