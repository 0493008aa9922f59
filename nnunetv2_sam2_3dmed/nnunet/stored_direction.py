"""The direction of an image, from what nnU-Net's readers note of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def direction_of(properties: Mapping[str, Any]) -> np.ndarray:
    """Unit vectors (3, 3) of the index axes x, y, z of an image in its columns, in LPS, as ITK has them.

    Args:
        properties: of a preprocessed case. Readers that turn images note how they have left them.

    Returns:
        Those; for readers of images that have no direction, such as TIFF, axes along those of the patient.
    """
    if "sitk_stuff" in properties:
        return np.array(properties["sitk_stuff"]["direction"], dtype=float).reshape(3, 3)
    noted = properties.get("nibabel_stuff", {})
    affine = noted.get("reoriented_affine", noted.get("original_affine"))
    if affine is None:
        return np.eye(3)
    columns = _RAS_TO_LPS @ np.asarray(affine, dtype=float)[:3, :3]
    return columns / np.linalg.norm(columns, axis=0)
