"""The final validation prompts as the protocol ``box`` of the benchmark does, and is summarised by nnU-Net."""

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.intensities import Z_SCORE, ShownAs
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import box_on_the_middle_slice
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser
from nnunetv2_sam2_3dmed.prompt_training import validation
from tests.interactive.reference import phantom

LABELS = {"background": 0, "large": 1, "small": 2}
SHAPE = (3, 40, 48)


@pytest.fixture
def case(tmp_path) -> RawCase:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[:, 8:28, 10:32] = 1
    labels[1, 30:34, 36:41] = 2
    files = []
    for name, array in (("image", phantom(SHAPE)), ("label", labels)):
        files.append(tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(sitk.GetImageFromArray(array), str(files[-1]))
    return RawCase("case_01", *files)


def test_masks_of_boxes_are_written_and_summarised(lively_network, case, tmp_path, monkeypatch):
    summarised, logged = [], {}

    def metrics(*arguments, **options):
        summarised.append(arguments)
        return {"foreground_mean": {"Dice": 0.5}}

    monkeypatch.setattr(validation, "compute_metrics_on_folder", metrics)
    monkeypatch.setattr(lively_network, "shown_as", None, raising=False)
    trainer = SimpleNamespace(
        network=lively_network,
        device="cpu",
        is_ddp=False,
        local_rank=0,
        output_folder=str(tmp_path),
        dataset_json={"labels": LABELS, "file_ending": ".nii.gz"},
        label_manager=LabelManager(LABELS, None),
        preprocessed_dataset_folder_base=str(tmp_path / "preprocessed"),
        plans_manager=SimpleNamespace(image_reader_writer_class=lambda: "reader"),
        logger=SimpleNamespace(log_summary=logged.__setitem__),
        print_to_log_file=lambda *words: None,
    )
    shown = ShownAs(Z_SCORE, -3.0, 3.0)
    validation.validate_with_boxes(trainer, shown, [case])

    user = SimulatedUser(
        InteractiveSession(lively_network, "cpu", "float32"), case, {"large": (1,), "small": (2,)}, None
    )
    for number in user.gt:
        list(box_on_the_middle_slice()(user, number, np.random.default_rng(0)))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "validation" / "case_01.nii.gz")))
    np.testing.assert_array_equal(written, user.label_map([1, 2]))
    assert written.any() and lively_network.shown_as == shown
    gt, folder, file, *_ = summarised[0]
    assert gt == str(tmp_path / "preprocessed" / "gt_segmentations")
    assert (folder, file) == (str(tmp_path / "validation"), str(tmp_path / "validation" / "summary.json"))
    assert summarised[0][3:] == ("reader", ".nii.gz", [1, 2], None)
    assert logged == {"final_val/foreground_dice": 0.5}
