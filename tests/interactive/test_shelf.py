"""Outputs in a temporary file."""

from __future__ import annotations

import errno
import gc
import os
import tempfile

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import shelf
from nnunetv2_sam2_3dmed.interactive.shelf import Shelf
from nnunetv2_sam2_3dmed.interactive.tracks import SliceOutput


def random_output(seed: int) -> SliceOutput:
    generator = torch.Generator().manual_seed(seed)
    logits, pointer, presence, quality = (
        torch.randn(shape, generator=generator) for shape in ((1, 1, 8, 8), (1, 5), (1, 1), (1,))
    )
    return SliceOutput(logits, pointer, presence, quality, torch.randn((1, 3, 2, 2), generator=generator).bfloat16())


def assert_same(found: SliceOutput, expected: SliceOutput) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_outputs_come_back_bit_for_bit_in_any_order():
    place = Shelf()
    kept = [place.keep(random_output(seed)) for seed in range(5)]
    for seed in (3, 0, 4, 1):
        assert_same(kept[seed].load(), random_output(seed))


def test_an_output_without_memory_comes_back():
    output = random_output(0)._replace(memory=None)
    found = Shelf().keep(output).load()
    assert found.memory is None and torch.equal(found.logits, output.logits)


def test_the_place_of_an_output_that_nobody_has_is_used_again():
    place = Shelf()
    size = 64 * 4 + 5 * 4 + 4 + 4 + 12 * 2
    first, second = place.keep(random_output(0)), place.keep(random_output(1))
    assert os.fstat(place._file.fileno()).st_size == 2 * size
    del first
    gc.collect()
    third = place.keep(random_output(2))
    assert os.fstat(place._file.fileno()).st_size == 2 * size
    assert_same(second.load(), random_output(1))
    assert_same(third.load(), random_output(2))


def test_the_file_lies_on_a_disk_or_where_the_user_says(monkeypatch, tmp_path):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert shelf.folder() == "/var/tmp"
    monkeypatch.setattr(shelf, "ON_DISK", str(tmp_path / "none"))
    assert shelf.folder() == tempfile.gettempdir()
    monkeypatch.setattr(shelf, "ON_DISK", "/var/tmp")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert shelf.folder() == str(tmp_path)


def test_a_full_disk_is_said_in_a_sentence(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR"):
        Shelf().keep(random_output(0))
