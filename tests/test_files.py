"""Leave no case for nnU-Net, and the older file, if a copy is killed."""

import shutil
from pathlib import Path

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


LONG = "n" * 300


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file/a.nii.gz", "since .*file is not a folder"),
        ("file/new/folder/a.nii.gz", "since .*file is not a folder"),
        ("folder", "is a folder, but must be a file"),
        (f"{LONG}.nii.gz", "its name is too long"),
        (f"{'n' * 249}.nii.gz", "its name is too long"),  # by one
        (f"{LONG}/a.nii.gz", "its name is too long"),
        ("/proc/a.nii.gz", "cannot be written"),
        ("/dev/null/a.nii.gz", "/dev/null is not a folder"),
    ],
)
def test_files_that_cannot_be_written_are_told_before(tmp_path, path, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"the output .*{reason}"):
        files.check_writable_file(tmp_path / path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("path", ["a.nii.gz", "new/folder/a.nii.gz", "folder/a.nii.gz", "file", f"{'n' * 200}.nii"])
def test_files_that_can_be_written(tmp_path, monkeypatch, path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files.check_writable_file(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    files.check_writable_file(Path(path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    files.write_text(tmp_path / path, "it can")


def test_folders(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "new" / "folder", tmp_path / ("n" * 255)):
        files.check_writable_folder(path)
    for path in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("n" * 256), Path("/proc/x")):
        with pytest.raises(UserError, match="cannot be written"):
            files.check_writable_folder(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_json_in_the_encodings_of_editors(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"name": "Größe"}'.encode(encoding))
    assert files.read_json(tmp_path / "a.json") == {"name": "Größe"}


def test_the_longest_name_that_there_is_can_be_written(tmp_path):
    file = tmp_path / f"{'n' * 248}.nii.gz"
    files.check_writable_file(file)
    files.write_text(file, "new")
    assert file.read_text() == "new"


def test_a_file_that_is_protected_is_not_replaced(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_text("older")
    files.check_writable_file(path)
    path.chmod(0o444)
    with pytest.raises(UserError, match="protected against writing"):
        files.check_writable_file(path)
