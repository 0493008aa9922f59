"""Worker processes that do their work, and one that is killed; scripts without a main guard are in test_grids."""

from __future__ import annotations

import os
import signal

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.processes import spawned


def double(value: int) -> int:
    return 2 * value


def killed(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_results_come_in_order():
    with spawned(2, "--processes") as pool:
        assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]


def test_a_process_that_was_killed_is_told_from_one_that_could_not_begin():
    with pytest.raises(UserError, match=r"one of 2 worker processes was killed, .* memory: use fewer \(--processes\)"):
        with spawned(2, "--processes") as pool:
            list(pool.map(killed, range(2)))


def test_what_a_job_raises_is_raised():
    with pytest.raises(TypeError), spawned(1, "--processes") as pool:
        list(pool.map(double, [None]))
