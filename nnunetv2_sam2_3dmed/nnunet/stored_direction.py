"""Direction of an image, from the properties that nnU-Net's readers store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def direction_of(properties: Mapping[str, Any]) -> np.ndarray:
    """Return the direction matrix of an image as ITK defines it.

    Args:
        properties: properties of a preprocessed case. Readers that reorient images store the new orientation.

    Returns:
        (3, 3), in LPS; the columns are the unit vectors of the index axes x, y and z. The identity for readers without
        a direction, such as those of TIFF.
    """
    if "sitk_stuff" in properties:
        return np.array(properties["sitk_stuff"]["direction"], dtype=float).reshape(3, 3)
    noted = properties.get("nibabel_stuff", {})
    affine = noted.get("reoriented_affine", noted.get("original_affine"))
    if affine is None:
        return np.eye(3)
    columns = _RAS_TO_LPS @ np.asarray(affine, dtype=float)[:3, :3]
    return columns / np.linalg.norm(columns, axis=0)
