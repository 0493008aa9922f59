"""Names of files from clients, and the images found among files."""

import os

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server import page_files
from nnunetv2_sam2_3dmed.server.page_files import inside, list_images, upload_path, uploaded_image


@pytest.fixture
def folder(tmp_path):
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    for name in ("a.nii.gz", "sub/b.NRRD", "notes.txt", ".hidden.nii"):
        (served / name).write_bytes(b"12345")
    (tmp_path / "secret.nii.gz").write_bytes(b"secret")
    return served


def test_images_of_a_folder(folder):
    series = folder / "series"
    series.mkdir()
    (series / "1").write_bytes(bytes(128) + b"DICM" + bytes(20))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "c.nii").write_bytes(b"1")
    (folder / "link.nii").symlink_to(folder.parent / "secret.nii.gz")
    assert list_images(folder) == (
        [
            {"path": "a.nii.gz", "kind": "file", "bytes": 5},
            {"path": "series", "kind": "dicom", "bytes": 152},
            {"path": "sub/b.NRRD", "kind": "file", "bytes": 5},
        ],
        True,
    )


def test_an_unreadable_folder_is_passed_over(folder, monkeypatch):
    (folder / "locked").mkdir()
    walk_into = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(path)
        return walk_into(path)

    monkeypatch.setattr(os, "scandir", scandir)
    images, complete = list_images(folder)
    assert [one["path"] for one in images] == ["a.nii.gz", "sub/b.NRRD"] and complete


def test_a_list_ends_at_its_limit(folder, monkeypatch):
    monkeypatch.setattr(page_files, "_MOST_LISTED", 1)
    images, complete = list_images(folder)
    assert [one["path"] for one in images] == ["a.nii.gz"] and not complete
    monkeypatch.setattr(page_files, "_MOST_FOLDERS", 0)
    assert list_images(folder) == ([], False)


@pytest.mark.parametrize("name", ["a.nii.gz", "sub/b.NRRD", "./sub/../a.nii.gz"])
def test_names_inside_a_folder(folder, name):
    assert inside(folder, name) == (folder / name).resolve()


@pytest.mark.parametrize(
    "name",
    ["../secret.nii.gz", "sub/../../secret.nii.gz", "/etc/passwd", "", ".", "missing.nii", "a\0b", "link", "x" * 5000],
)
def test_names_that_lead_out_of_a_folder_are_refused(folder, name):
    (folder / "link").symlink_to(folder.parent / "secret.nii.gz")
    with pytest.raises(UserError, match="no image in the folder"):
        inside(folder, name)


def test_there_is_nothing_to_open_without_a_folder():
    with pytest.raises(UserError, match="--folder"):
        inside(None, "a.nii.gz")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ct.nii.gz", "ct.nii.gz"),
        ("DISC/SERIES 1/IM 0001", "IM 0001"),
        ("C:\\images\\ct.nrrd", "ct.nrrd"),
        ("../../etc/passwd", "passwd"),
        (".bashrc", "bashrc"),
        ("CT Schädel (2).raw", "CT Schädel (2).raw"),  # as the header of its .mhd names it
        ("a\0b\n.nii", "a_b_.nii"),
        ("x" * 500 + ".nii.gz", "x" * 113 + ".nii.gz"),
        ("肝" * 200 + ".nii.gz", "肝" * 37 + ".nii.gz"),  # 3 bytes each; of the 113, 2 would be a part of one
        (".." + "x" * 112 + ".nii.gz", "x" * 112 + ".nii.gz"),
    ],
)
def test_uploads_lie_in_their_folder(tmp_path, name, expected):
    assert upload_path(tmp_path, name) == tmp_path / expected


def test_uploads_of_one_name_do_not_replace_each_other(tmp_path):
    for _ in range(3):
        upload_path(tmp_path, "disc/IM1").write_bytes(b"")
    assert sorted(os.listdir(tmp_path)) == ["1_IM1", "2_IM1", "IM1"]


@pytest.mark.parametrize("name", ["", "/", "a/..", "..."])
def test_uploads_need_a_name(tmp_path, name):
    with pytest.raises(UserError, match="no file name"):
        upload_path(tmp_path, name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ct.nii.gz"], "ct.nii.gz"),
        (["ct.nii.gz", "readme.txt"], "ct.nii.gz"),
        (["ct.mhd", "ct.raw"], "ct.mhd"),
        (["ct.nhdr", "ct.nrrd"], "ct.nhdr"),
        (["IM1", "IM2"], ""),
        (["one.dcm"], "one.dcm"),
    ],
)
def test_the_image_among_uploads(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert uploaded_image(tmp_path) == tmp_path / expected


def test_several_images_are_no_image(tmp_path):
    with pytest.raises(UserError, match="no file was received"):
        uploaded_image(tmp_path)
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="2 images were given"):
        uploaded_image(tmp_path)
