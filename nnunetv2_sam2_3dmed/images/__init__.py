"""Volumes read from files or DICOM series, checked, and written; how they are turned and windowed for display."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg as write_dicom_seg
    from nnunetv2_sam2_3dmed.images.label_maps import label_map as label_map
    from nnunetv2_sam2_3dmed.images.volume import Volume as Volume
    from nnunetv2_sam2_3dmed.images.volume import volume_from_array as volume_from_array
    from nnunetv2_sam2_3dmed.images.volumes import check_same_grid as check_same_grid
    from nnunetv2_sam2_3dmed.images.volumes import read_volume as read_volume
    from nnunetv2_sam2_3dmed.images.volumes import volume_from_sitk as volume_from_sitk
    from nnunetv2_sam2_3dmed.images.volumes import write_segmentation as write_segmentation
    from nnunetv2_sam2_3dmed.images.volumes import write_volume as write_volume

# imported when they are asked for: pydicom, SimpleITK and highdicom take their time
_MODULES = {
    "Volume": "volume",
    "check_same_grid": "volumes",
    "label_map": "label_maps",
    "read_volume": "volumes",
    "volume_from_array": "volume",
    "volume_from_sitk": "volumes",
    "write_dicom_seg": "dicom_seg",
    "write_segmentation": "volumes",
    "write_volume": "volumes",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
