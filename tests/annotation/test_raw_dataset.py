"""Datasets that can take new cases, and those that cannot."""

import json

import pytest

from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
from nnunetv2_sam2_3dmed.errors import UserError
from tests.annotation.conftest import DATASET, change_dataset


def test_objects_are_the_foreground(dataset):
    assert dataset.name == DATASET and dataset.objects == {1: "organ", 3: "lesion"}
    assert dataset.labels == {0, 1, 3, 4}
    assert dataset.cases() == ["expert_01", "expert_02"] and dataset.has("expert_01") and not dataset.has("new_1")


def test_the_older_name_of_channels(folders):
    file = folders / "nnUNet_raw" / DATASET / "dataset.json"
    content = json.loads(file.read_text())
    content["modality"] = content.pop("channel_names")
    file.write_text(json.dumps(content))
    assert open_dataset("301").objects == {1: "organ", 3: "lesion"}
    del content["modality"]
    for text, message in ((json.dumps(content), "has the channel_names None"), ("[]", "holds a list")):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            open_dataset("301")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, "have 2 channels, but prompts are for images of one"),
        ({"dataset": {}}, "lists its cases one by one"),
        ({"sam2_3dmed": {"pictures": True}}, "to which images cannot be added as they are"),
        (
            {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
            "has regions, but an object gets one label",
        ),
        ({"file_ending": ".png"}, "end in .png, but masks are written as .nii.gz"),
    ],
)
def test_others_are_refused_in_a_sentence(folders, changes, message):
    change_dataset(folders, changes)
    with pytest.raises(UserError, match=message):
        open_dataset("301")


def test_raw_images_are_needed(folders):
    (folders / "nnUNet_raw" / DATASET / "dataset.json").unlink()
    with pytest.raises(UserError, match="set nnUNet_raw to the folder that has the raw images"):
        open_dataset("301")
