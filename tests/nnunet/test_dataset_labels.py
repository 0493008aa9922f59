"""The labels of dataset.json: nnU-Net's own rules, in sentences, before anything is trained."""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import (
    check_declared_labels,
    check_labels,
    expected_values,
    foreground_names,
    written_values,
)

GOOD = {
    "two classes": {"labels": {"background": 0, "organ": 1, "lesion": 2}},
    "in any order": {"labels": {"lesion": 2, "organ": 1, "background": 0}},
    "ignore": {"labels": {"background": 0, "organ": 1, "ignore": 2}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
    "regions and ignore": {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3], "ignore": 4},
        "regions_class_order": [1, 2, 3],
    },
}


@pytest.mark.parametrize("dataset_json", GOOD.values(), ids=GOOD)
def test_what_nnunet_trains_is_accepted(dataset_json):
    check_labels("Dataset001_X", dataset_json)
    # nnU-Net's own check of a dataset, which it makes only when it is told to
    manager = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    declared = [*manager.all_labels, *([manager.ignore_label] if manager.has_ignore_label else [])]
    assert (np.ediff1d(declared) == 1).all()
    assert expected_values(dataset_json) == declared
    classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    named = [tuple(values) for values in foreground_names(dataset_json).values()]
    assert sorted(named) == sorted(tuple(c) if isinstance(c, (tuple, list)) else (c,) for c in classes)
    assert written_values(dataset_json) == list(
        manager.regions_class_order if manager.has_regions else manager.foreground_labels
    )


def test_regions_are_written_as_their_order_says():
    order = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [2, 1]}
    assert written_values(order) == [2, 1]


def test_labels_with_gaps_can_be_read_but_not_trained():
    gaps = {"labels": {"background": 0, "organ": 1, "lesion": 3, "ignore": 4}}
    check_declared_labels("dataset.json", gaps)
    assert written_values(gaps) == [1, 3] and expected_values(gaps) == [0, 1, 3, 4]
    with pytest.raises(UserError, match="leave out 2"):
        check_labels("D", gaps)


def labels(**named):
    return {"labels": {"background": 0, **named}}


REGIONS = {"whole": [1, 2], "core": 2}


@pytest.mark.parametrize(
    "dataset_json, said",
    [
        ({}, "has the labels None"),
        ([], "has the labels None"),
        ({"labels": {}}, "has the labels {}"),
        ({"labels": ["background", "organ"]}, "expected names with numbers"),
        ({"labels": {"0": "background", "1": "organ"}}, "the label '0' is 'background'"),
        (labels(organ="1"), "the label 'organ' is '1'"),
        (labels(organ=1.5), "the label 'organ' is 1.5"),
        (labels(organ=True), "the label 'organ' is True"),
        (labels(organ=None), "the label 'organ' is None"),
        (labels(organ=-1), "the label 'organ' is -1"),
        (labels(organ=[]), r"the label 'organ' is \[\]"),
        (labels(organ=[1, "2"]), r"the label 'organ' is \[1, '2'\]"),
        (labels(organ=[[1, 2]]), r"the label 'organ' is \[\[1, 2\]\]"),
        ({"labels": {"organ": 1}}, "`background` is missing"),
        ({"labels": {"background": 1, "organ": 0}}, "`background` is 1"),
        ({"labels": {"background": [0], "organ": 1}}, r"`background` is \[0\]"),
        (labels(), "no label but the background"),
        (labels(ignore=1), "no label but the background"),
        (labels(organ=1, lesion=3), "labels 0, 1, 3 .* leave out 2, but nnU-Net needs 0 to 2"),
        (labels(organ=255), "leave out 1, 2, 3, 4, 5, but nnU-Net needs 0 to 1"),
        (labels(organ=1, tumour=1), "'organ' and 'tumour' are both 1"),
        (labels(organ=1, nothing=0), "'background' and 'nothing' are both 0"),
        (labels(organ=1, ignore=1), "the ignore label is 1 .* must be the highest, 2"),
        (labels(organ=1, ignore=255), "the ignore label is 255 .* must be the highest, 2"),
        (labels(organ=1, ignore=[2]), r"the ignore label is the region \[2\]"),
        (labels(**REGIONS), "regions_class_order is None"),
        ({**labels(**REGIONS), "regions_class_order": [1]}, r"regions_class_order is \[1\] .* a list of 2 labels"),
        ({**labels(**REGIONS), "regions_class_order": [1, "2"]}, "regions_class_order has '2'"),
        ({**labels(**REGIONS), "regions_class_order": [1, 3]}, "regions_class_order has 3 .* which are 1, 2"),
        ({**labels(whole=[1, 2, 4], core=[2, 4]), "regions_class_order": [1, 2]}, "leave out 3"),
    ],
)
def test_others_are_refused_in_one_sentence(dataset_json, said):
    with pytest.raises(UserError, match=said) as refused:
        check_labels("Dataset001_X", dataset_json)
    assert "dataset.json of Dataset001_X" in str(refused.value) and "\n" not in str(refused.value)
