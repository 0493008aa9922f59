"""A lock ends with the last process that holds it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nnunetv2_sam2_3dmed import locks
from nnunetv2_sam2_3dmed.locks import held, is_held


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_TO_TRY", 0.2)


def test_one_at_a_time(tmp_path):
    file = tmp_path / "new" / "lock"
    assert not is_held(file)
    with held(file) as first:
        assert first is not None
        assert is_held(file)
        with held(file) as second:
            assert second is None
        assert is_held(file), "the one that did not get it has released nothing"
    assert not is_held(file)


def test_a_child_holds_it_on_until_it_is_killed(tmp_path):
    file = tmp_path / "lock"
    with held(file) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(descriptor,))
    assert is_held(file)
    child.kill()
    child.wait()
    assert not is_held(file)
