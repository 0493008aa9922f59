"""What is left of a copy that is killed is no case for nnU-Net, and the file that was there stays."""

import shutil

import pytest

from nnunetv2_sam2_3dmed import files
from nnunetv2_sam2_3dmed.errors import UserError


def test_a_copy_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    source, target = tmp_path / "a.nii.gz", tmp_path / "imagesTr" / "case_0000.nii.gz"
    source.write_bytes(b"new")
    files.copy_file(source, target)
    assert target.read_bytes() == b"new"

    during = []

    def killed(source, beside):
        beside.write_bytes(b"h")
        during.extend(path.name for path in target.parent.iterdir())
        raise KeyboardInterrupt

    target.write_bytes(b"old")
    monkeypatch.setattr(shutil, "copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        files.copy_file(source, target)
    assert len(during) == 2 and [name for name in during if name.endswith(".nii.gz")] == [target.name]
    assert target.read_bytes() == b"old"


def test_damaged_json_comes_with_what_to_do(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="a.json is no valid JSON .*: let nnU-Net write it again"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="a.json is no valid JSON .*: mend it"):
        files.read_json(tmp_path / "a.json", "mend it")
