"""The YAML file: what is taken, and what each mistake is told."""

from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.specification import Method, read_specification

GOOD = """
name: table1
datasets: [9, Dataset007_Pancreas]
folds: [0, 3]
seeds: [0, 7]
methods:
  - {trainer: nnUNetTrainer, configuration: 3d_fullres}
  - {trainer: nnUNetTrainer, configuration: 3d_fullres, plans: nnUNetResEncUNetMPlans, name: ResEnc M}
reference: ResEnc M
"""


def read(tmp_path, text: str):
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    return read_specification(file)


def test_a_complete_file(tmp_path):
    specification = read(tmp_path, GOOD)
    resenc = Method("nnUNetTrainer", "3d_fullres", "nnUNetResEncUNetMPlans", "ResEnc M")
    assert specification.name == "table1"
    assert specification.datasets == ("9", "Dataset007_Pancreas")
    assert (specification.folds, specification.seeds) == ((0, 3), (0, 7))
    assert specification.methods == (Method("nnUNetTrainer", "3d_fullres", "nnUNetPlans"), resenc)
    assert specification.reference == resenc
    assert resenc.key == "nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres"
    assert resenc.seeded(7).key == "nnUNetTrainer_seed7__nnUNetResEncUNetMPlans__3d_fullres"
    assert resenc.seeded(None) is resenc


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("folds:", "fold:", r"the key 'fold', expected name, .*: did you mean folds\?"),
        ("configuration: 3d_fullres}", "config: 3d_fullres}", "method 1 has the key 'config'.* mean configuration"),
        ("configuration: 3d_fullres}", "plans: nnUNetPlans}", "method 1 has no configuration"),
        ("[0, 3]", "[0, 0]", "0 is in folds twice"),
        ("[0, 3]", "0", "folds is 0, expected a list"),
        ("[0, 3]", "[all]", "on the fold 'all' nothing is held out"),
        ("[0, 3]", "[true]", "folds is .True."),
        ("[0, 3]", "[]", "folds is .., expected a list"),
        ("[0, 7]", "[-1]", "the seed -1 is out of range"),
        (", plans: nnUNetResEncUNetMPlans", "", "nnUNetTrainer__nnUNetPlans__3d_fullres is in methods twice"),
        ("reference: ResEnc M", "reference: ResEnc L", "reference is 'ResEnc L', expected one of the methods"),
        ("name: table1", "name: ../table1", "name is '../table1', expected letters"),
        ("trainer: nnUNetTrainer,", "trainer: a__b,", "trainer of method 1 is 'a__b'"),
        ("trainer: nnUNetTrainer,", "trainer: '-tr',", "trainer of method 1 is '-tr'"),
        ("folds: [0, 3]", "folds: [0, 3]\nfolds: [1]", "the key 'folds' is there twice"),
        ("name: table1", "name: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("name: table1", "name: [", "is not valid YAML"),
    ],
)
def test_mistakes(tmp_path, old, new, says):
    assert old in GOOD
    with pytest.raises(UserError, match=says):
        read(tmp_path, GOOD.replace(old, new, 1))


def test_no_file_and_no_keys(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        read_specification(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="expected the keys name"):
        read(tmp_path, "- 9\n")
