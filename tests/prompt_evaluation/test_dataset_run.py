from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.prompt_evaluation.dataset_run import resolution_warnings


def test_sam2_at_another_resolution_than_its_own_is_said():
    large = CHECKPOINTS["sam2_hiera_large"].sha256
    (warning,) = resolution_warnings("sam2_hiera_large", large, 512)
    assert "trained on images of 1024 pixels and is measured on 512: set the image size to 1024" in warning
    assert "image_size in an experiment's file" in warning  # prompt-experiment has no option for it
    assert resolution_warnings("sam2_hiera_large", large, 1024) == []
    assert resolution_warnings("MedSAM2_latest", "0" * 64, 512) == []  # fine-tuned at 512
