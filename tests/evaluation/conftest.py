from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

WriteLabels = Callable[..., Path]


@pytest.fixture
def write_labels() -> WriteLabels:
    """Writes a label map as an image file; ``spacing`` is in array order, all else in SimpleITK's."""

    def write(
        file: Path,
        labels: np.ndarray,
        spacing: Sequence[float] | None = None,
        origin: Sequence[float] | None = None,
        direction: Sequence[float] | None = None,
    ) -> Path:
        image = SimpleITK.GetImageFromArray(labels.astype(np.uint8))
        image.SetSpacing([float(s) for s in (spacing or [1] * labels.ndim)[::-1]])
        if origin is not None:
            image.SetOrigin(origin)
        if direction is not None:
            image.SetDirection(direction)
        file.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(file))
        return file

    return write
