"""Messages name files as clients do."""

from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server.page_uploads import Batch, client_names


def told(files: Batch | Path, sentence: str) -> str:
    """The sentence of an error, as a client gets it."""
    with pytest.raises(UserError) as found, client_names(files, "my scans"):
        raise UserError(sentence)
    return str(found.value)


def test_files_of_a_batch_have_the_names_of_the_client(tmp_path):
    batch = Batch(tmp_path, 10)
    batch.names = {"IM1": "disc 1/IM1", "IM10": "disc 1/IM10", "1_IM1": "disc 2/IM1"}
    folder = batch.folder
    assert told(batch, f"{folder}/IM10 is empty.") == "disc 1/IM10 is empty."
    assert told(batch, f"{folder}/1_IM1 and {folder}/IM1 differ.") == "disc 2/IM1 and disc 1/IM1 differ."
    assert told(batch, f"{folder} has no image.") == "my scans has no image."


def test_files_of_the_folder_are_named_within_it(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = Path("images")
    assert told(folder, f"{tmp_path}/images/a/ct.nii is empty: images have voxels.") == (
        "a/ct.nii is empty: images have voxels."
    )
    assert told(Path("/"), "/a/ct.nii is empty.") == "/a/ct.nii is empty."
