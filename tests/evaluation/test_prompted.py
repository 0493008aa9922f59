import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.comparison_files import comparison_markdown
from nnunetv2_sam2_3dmed.evaluation.prompted import check_same_run, note_prompts, prompts_of


def test_what_was_prompted_is_said_wherever_it_is_compared(write_labels, tmp_path):
    labels = np.zeros((3, 4, 5))
    labels[1, 1:3, 1:3] = 1
    for folder in ("truth", "prompted", "other"):
        write_labels(tmp_path / folder / "a.nii.gz", labels)
    note_prompts(tmp_path / "prompted", "box on every slice")
    assert prompts_of([tmp_path / "other", tmp_path / "prompted"]) == "box on every slice"
    assert prompts_of([tmp_path / "other"]) is None

    dataset = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    methods = {"told": [tmp_path / "prompted"], "alone": [tmp_path / "other"]}
    comparison = compare(methods, tmp_path / "truth", dataset, tmp_path / "out", processes=1, progress=False)
    said = "told was prompted from the ground truth (box on every slice), which methods without prompts were not."
    assert comparison.warnings == [said] and f"**Warning:** {said}" in comparison_markdown(comparison)


def test_masks_of_another_run_are_not_mixed_with_those_of_this_one(tmp_path):
    run = {"model_sha256": "ab", "seed": 0, "axis": (1,)}
    assert check_same_run(tmp_path / "out", ["box"], run) is False
    (tmp_path / "out" / "box").mkdir(parents=True)
    assert check_same_run(tmp_path / "out", ["box"], run) is False  # nothing is in it
    note_prompts(tmp_path / "out" / "box", "box on the middle slice", run)
    assert check_same_run(tmp_path / "out", ["box"], run) is True
    assert prompts_of([tmp_path / "out" / "box"]) == "box on the middle slice"
    # also where this run writes to another folder: the tables above are those of one run
    for names in (["box"], ["boxes"]):
        with pytest.raises(UserError, match="with seed 0 instead of 1: give another -o"):
            check_same_run(tmp_path / "out", names, {**run, "seed": 1})
    (tmp_path / "older" / "box").mkdir(parents=True)
    (tmp_path / "older" / "box" / "a.nii.gz").touch()
    with pytest.raises(UserError, match="nothing says of which run"):
        check_same_run(tmp_path / "older", ["box"], run)
