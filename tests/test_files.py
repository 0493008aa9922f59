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


def test_what_is_wrong_with_the_source_of_a_copy_is_not_said_of_the_target(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        files.copy_file(tmp_path / "missing", tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_place_is_looked_at_without_writing_there(tmp_path):
    files.check_writable(tmp_path / "new" / "newer" / "a.txt")
    (tmp_path / "file").write_text("a")
    files.check_writable(tmp_path / "file")
    for path, why in ((tmp_path / "file" / "a.txt", "is no folder"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=why):
            files.check_writable(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_errors_of_the_caller_pass_and_leave_nothing(tmp_path):
    for error in (UserError("of the caller"), RuntimeError("of the caller"), KeyboardInterrupt("of the caller")):
        with pytest.raises(type(error), match="of the caller"), files.written_beside(tmp_path / "a") as beside:
            beside.write_text("half")
            raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["", ".nii.gz"])
def test_what_is_half_written_is_no_file_of_the_folder_that_ends_so(tmp_path, ending):
    with files.written_beside(tmp_path / "new" / "a.nii.gz", ending) as beside:
        beside.write_text("half")
        there = [file.name for file in (tmp_path / "new").iterdir()]
        assert len(there) == 1 and there[0].startswith(".") and not there[0].endswith(".nii.gz")
        assert beside.name.endswith(ending)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.nii.gz"]
