"""Checkpoint files that several threads read at once."""

from threading import Thread

import numpy as np
import torch

from nnunetv2_sam2_3dmed.safe_loading import load_safely


def test_files_that_are_read_at_once_are_not_refused(tmp_path, monkeypatch):
    """A second thread reads a file from beginning to end while the first one is about to read its own."""
    files = [tmp_path / f"{name}.pth" for name in ("first", "second")]
    for number, file in enumerate(files):
        torch.save({"dice": np.float64(number)}, file)
    load, read = torch.load, []

    def slow(file, **options):
        if file == files[0]:
            other = Thread(target=lambda: read.append(load_safely(files[1], "numbers")))
            other.start()
            other.join()
        return load(file, **options)

    monkeypatch.setattr(torch, "load", slow)
    assert load_safely(files[0], "numbers") == {"dice": 0.0} and read == [{"dice": 1.0}]
    assert not any("scalar" in str(allowed) for allowed in torch.serialization.get_safe_globals())
