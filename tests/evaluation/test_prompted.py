import numpy as np

from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts, prompts_of
from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown


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
    said = "told was prompted from the truth (box on every slice), which methods without prompts were not."
    assert comparison.warnings == [said] and f"**Warning:** {said}" in as_markdown(comparison)
