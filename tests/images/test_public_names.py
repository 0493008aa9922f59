"""The names that nnunetv2_sam2_3dmed.images offers."""

import subprocess
import sys

from nnunetv2_sam2_3dmed import images


def test_each_name_is_there():
    assert all(getattr(images, name).__name__ == name for name in images.__all__)
    assert not hasattr(images, "read_volumes")


def test_libraries_are_imported_when_they_are_needed():
    code = (
        "import sys, nnunetv2_sam2_3dmed.images as images\n"
        "assert not {'pydicom', 'SimpleITK', 'highdicom'} & set(sys.modules)\n"
        "assert images.read_volume and 'SimpleITK' in sys.modules and 'highdicom' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
