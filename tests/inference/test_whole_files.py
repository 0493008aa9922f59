"""Prediction of folders with files that are cut off, damaged or no images, with nnU-Net's own processes left out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_sam2_3dmed.errors import UserError
from tests.inference.test_predictor import Counting, predictor_for

CASES = ("a", "b", "c", "d")
IMAGE = np.random.default_rng(0).integers(0, 1000, (15, 16, 17)).astype(np.int16)
VOXELS = torch.zeros(1, 1, 1, 1)  # that nnU-Net would have made of an image


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for case in CASES:
        sitk.WriteImage(sitk.GetImageFromArray(IMAGE), str(folder / f"{case}_0000.nii.gz"))
    (folder / "._a_0000.nii.gz").write_bytes(b"left by macOS")
    return folder


@pytest.fixture
def predict(images, tmp_path, monkeypatch):
    """Predict, where each segmentation is the image that was read; return the cases that were predicted."""
    done = []

    def preprocess(lists, earlier, outputs, *_):
        for case, output in zip(lists, outputs, strict=True):
            yield {"image": case[0], "output": output, "data": VOXELS, "ofile": output}

    def export(self, cases, *_):
        for case in cases:
            shutil.copy(case["image"], f"{case['output']}.nii.gz")
            done.append(case["output"].rpartition("/")[2])

    monkeypatch.setattr(predict_from_raw_data, "preprocessing_iterator_fromfiles", preprocess)
    monkeypatch.setattr(nnUNetPredictor, "predict_from_data_iterator", export)

    def run(**options):
        done.clear()
        predictor_for(Counting()).predict_from_files(str(images), str(tmp_path / "out"), **options)
        return list(done)

    run.done = done
    return run


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def test_hidden_files_are_no_images(predict):
    assert predict() == list(CASES)


def test_a_cut_image_is_noticed_before_anything_is_segmented_and_left_out(predict, images, monkeypatch, capsys):
    cut(images / "c_0000.nii.gz", -30)
    export, said = nnUNetPredictor.predict_from_data_iterator, []

    def export_later(self, cases, *options):
        said.append(capsys.readouterr().err)
        export(self, cases, *options)

    monkeypatch.setattr(nnUNetPredictor, "predict_from_data_iterator", export_later)
    with pytest.raises(UserError, match="c_0000.nii.gz is incomplete.*; 1 cases were not segmented: c.$"):
        predict()
    assert predict.done == ["a", "b", "d"]
    assert "c_0000.nii.gz is incomplete" in said[0]
    assert predict(num_parts=3, part_id=0) == ["a", "d"], "nothing is said of a part that is not theirs"


def test_a_damaged_image_is_left_out_and_named(predict, images):
    content = bytearray((images / "b_0000.nii.gz").read_bytes())
    content[4000] ^= 16  # the length at the end is still right
    (images / "b_0000.nii.gz").write_bytes(content)
    with pytest.raises(UserError, match="b_0000.nii.gz is damaged.*; 1 cases were not segmented: b"):
        predict()
    assert predict.done == ["a", "c", "d"]


def test_a_case_that_is_left_out_is_named_though_an_older_segmentation_of_it_is_whole(predict, images):
    predict()
    content = bytearray((images / "b_0000.nii.gz").read_bytes())
    content[4000] ^= 16
    (images / "b_0000.nii.gz").write_bytes(content)
    with pytest.raises(UserError, match="b_0000.nii.gz is damaged.*; 1 cases were not segmented: b.$"):
        predict()


def test_an_image_with_nan_which_itk_would_make_0_of_is_left_out(predict, images):
    voxels = IMAGE.astype(np.float32)
    voxels[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(images / "b_0000.nii.gz"))
    with pytest.raises(UserError, match=r"b_0000.nii.gz holds 1 values that are not finite.* not segmented: b.$"):
        predict()
    assert predict.done == ["a", "c", "d"]


def test_a_twin_is_named(predict, images):
    sitk.WriteImage(sitk.GetImageFromArray(IMAGE), str(images / "d_0000.nii"))
    with pytest.raises(UserError, match="d_0000.nii.gz has d_0000.nii beside it"):
        predict()


def test_half_a_segmentation_is_made_again(predict, tmp_path):
    assert predict() == list(CASES)
    assert predict(overwrite=False) == []
    cut(tmp_path / "out" / "b.nii.gz", -30)
    (tmp_path / "out" / "d.nii.gz").unlink()
    assert predict(overwrite=False) == ["b", "d"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "b.nii.gz"))), IMAGE)


def test_probabilities_are_part_of_a_case(predict, tmp_path):
    predict()
    for case in CASES[:2]:
        np.savez(tmp_path / "out" / f"{case}.npz", probabilities=IMAGE)
    cut(tmp_path / "out" / "b.npz", -10)
    assert predict(overwrite=False, save_probabilities=True) == ["b", "c", "d"]


def test_segmentations_that_the_disk_did_not_take(predict, images, tmp_path, monkeypatch):
    def export(self, cases, *_):
        for case in cases:
            shutil.copy(case["image"], f"{case['output']}.nii.gz")
            if case["output"].endswith(("/a", "/c")):
                cut(tmp_path / "out" / f"{case['output'][-1]}.nii.gz", 100)

    monkeypatch.setattr(nnUNetPredictor, "predict_from_data_iterator", export)
    with pytest.raises(UserError, match=r"2 segmentations in .*out are not whole \(a.nii.gz, c.nii.gz\)"):
        predict()
    assert (tmp_path / "out" / "b.nii.gz").exists()
    cut(images / "b_0000.nii.gz", -30)
    with pytest.raises(UserError, match=r"b_0000.nii.gz is incomplete.*segmented: b; 2 segmentations .*a.nii.gz, c"):
        predict()


def test_one_by_one_too_the_disk_is_looked_at(images, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def half(self, lists, outputs, *_):
        self._manage_input_and_output_lists(lists, outputs)
        shutil.copy(images / "a_0000.nii.gz", f"{outputs[0]}.nii.gz")
        cut(tmp_path / "out" / "a.nii.gz", 100)

    monkeypatch.setattr(nnUNetPredictor, "predict_from_files_sequential", half)
    with pytest.raises(UserError, match=r"1 segmentations in .*out are not whole \(a.nii.gz\)"):
        predictor_for(Counting()).predict_from_files_sequential(
            [[str(images / "a_0000.nii.gz")]], [str(tmp_path / "out" / "a")]
        )


def test_the_file_that_nnunets_process_died_of_is_named(predict, images, monkeypatch):
    def preprocess(lists, earlier, outputs, *_):
        yield {"image": lists[0][0], "output": outputs[0], "data": VOXELS, "ofile": outputs[0]}
        raise RuntimeError("Background workers died. Look for the error message further up!")

    monkeypatch.setattr(predict_from_raw_data, "preprocessing_iterator_fromfiles", preprocess)
    with pytest.raises(RuntimeError, match="Background workers died"):
        predict()
    content = bytearray((images / "c_0000.nii.gz").read_bytes())
    content[4000] ^= 16
    (images / "c_0000.nii.gz").write_bytes(content)
    with pytest.raises(RuntimeError, match="c_0000.nii.gz is damaged"):
        predict()
    assert predict.done == ["a"]
