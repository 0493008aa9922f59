"""Libraries' warnings of images that are checked here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from nnunetv2_sam2_3dmed.shared_context import SharedContext


@contextmanager
def _ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Python's filters are those of the whole process, and clients of a server open files at the same time
without_warnings = SharedContext(_ignored)
