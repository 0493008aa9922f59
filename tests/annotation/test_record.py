"""Contents of annotations.csv."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation.record import Annotation, read_record, voxels_sha256, write_record
from nnunetv2_sam2_3dmed.errors import UserError

LINE = Annotation("new_1", "corrected", "r", "id", "m", "abc", "Ada", "2026-01-01", "0.2", "0.9", "def")


def test_written_and_read(tmp_path):
    write_record(tmp_path, {"new_1": LINE})
    assert read_record(tmp_path) == {"new_1": LINE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("new_1", "../new_1"), "has the case '../new_1', which is no file name"),
        (lambda text: text.replace("new_1", ".new_1"), "has the case '.new_1', which is no file name"),
        (lambda text: text.replace("new_1", ""), "has the case '', which is no file name"),
        (lambda text: text.replace("corrected", "drawn"), "has the source 'drawn' of new_1"),
        (lambda text: text.replace(",0.9,def", ""), "an incomplete row of new_1"),
        (lambda text: text + text.splitlines()[1], "has two rows of new_1"),
        (lambda text: text.replace("label_sha256", "sha"), "has the column .sha., which is not known"),
    ],
)
def test_damaged_records(tmp_path, change, message):
    write_record(tmp_path, {"new_1": LINE})
    file = tmp_path / "annotations.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=message):
        read_record(tmp_path)


def test_voxels_count_and_not_their_type():
    labels = np.zeros((2, 3, 4), dtype=np.uint8)
    labels[1, 1] = 3
    same = voxels_sha256(labels)
    assert voxels_sha256(labels.astype(np.float32)) == voxels_sha256(labels.astype(np.int16)) == same
    assert voxels_sha256(labels.reshape(3, 2, 4)) != same
    labels[0, 0, 0] = 1
    assert voxels_sha256(labels) != same
