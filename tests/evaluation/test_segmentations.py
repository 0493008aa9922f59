from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation


def write(file, values: np.ndarray):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(file))
    return file


@pytest.mark.parametrize("reader", [SimpleITKIO(), NibabelIO()])
@pytest.mark.parametrize(("largest", "dtype"), [(3, np.uint8), (255, np.uint8), (300, np.uint16)])
def test_labels_take_as_few_bytes_as_they_need(tmp_path, reader, largest, dtype):
    values = np.random.default_rng(0).integers(0, largest + 1, size=(3, 4, 5)).astype(np.float32)
    values[0, 0, 0] = largest
    labels = read_segmentation(write(tmp_path / "labels.nii.gz", values), reader).labels
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, values)


def test_negative_values_stay_what_they_are(tmp_path):
    values = np.array([[[-1, 0], [1, 200]]], np.int16)
    labels = read_segmentation(write(tmp_path / "labels.nii.gz", values), SimpleITKIO()).labels
    np.testing.assert_array_equal(labels, values)


def test_labels_that_single_precision_would_merge_are_refused(tmp_path):
    file = write(tmp_path / "labels.nii.gz", np.array([[[0, 2**24, 2**24 + 1]]], np.int32))
    with pytest.raises(UserError, match="labels.nii.gz holds the label 16777216, but labels are below 16777216"):
        read_segmentation(file, SimpleITKIO())


@pytest.mark.parametrize(("value", "message"), [(0.75, "holds the value 0.75"), (np.nan, "not finite")])
def test_what_is_no_label_is_refused(tmp_path, value, message):
    values = np.ones((2, 3, 4), np.float32)
    values[1, 1, 1] = value
    file = write(tmp_path / "probabilities.nrrd", values)  # ITK reads no NaN from NIfTI
    with pytest.raises(UserError, match=f"probabilities.nrrd holds .*{message.removeprefix('holds ')}"):
        read_segmentation(file, SimpleITKIO())
