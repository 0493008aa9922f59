"""A write that fails at any byte leaves the older file or none, nothing beside it, and one sentence.

The size of files is limited, as by ``ulimit -f``: the write that crosses the limit fails, as on a full disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from nnunetv2_sam2_3dmed import download
from nnunetv2_sam2_3dmed.commands.weights import install_file
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cache import CachedEvaluator
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.experiments.demo_task import make_synthetic_task
from nnunetv2_sam2_3dmed.files import copy_file, write_png, write_text
from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg
from nnunetv2_sam2_3dmed.images.volumes import read_volume, volume_from_array, write_segmentation
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer
from tests.faults import file_size_limit
from tests.images.dicom_files import write_series

OLDER = b"what was there before"
# voxels that hardly compress, so that a file is larger than any writer's buffer
LABELS = np.random.default_rng(0).integers(0, 200, (20, 40, 50)).astype(np.uint8)


class Checkpointing(WholeFilesTrainer):
    """As much of a trainer as nnU-Net's ``save_checkpoint`` looks at."""

    def __init__(self) -> None:
        self.local_rank, self.disable_checkpointing, self.is_ddp = 0, False, False
        self.network = torch.nn.Linear(100, 100)
        self.optimizer = torch.optim.AdamW(self.network.parameters())
        self.logger = type("Logger", (), {"get_checkpoint": lambda self: {"mean_fg_dice": [0.5]}})()
        self.grad_scaler, self._best_ema, self.current_epoch = None, 0.5, 7
        self.my_init_kwargs, self.inference_allowed_mirroring_axes = {}, (2,)


def figure() -> Figure:
    made = Figure(figsize=(4, 3))
    made.subplots().plot(np.random.default_rng(0).random(200))
    return made


def write_scores(entry: Path) -> None:
    scores = {f"class {k}": MaskMetrics(0.1 * k, 0.1, 0.1, 1.0) for k in range(9)}
    CachedEvaluator(None, entry.parent)._save(entry, scores, None)  # type: ignore[arg-type]


@pytest.fixture
def copied(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "image.nii.gz"
    source.write_bytes(np.random.default_rng(0).bytes(300_000))
    return source


VOLUME = volume_from_array(LABELS, (3.0, 0.7, 0.7))
WRITERS = {
    "table.csv": lambda path: write_text(path, "case,dice\n" * 3000),
    "entry.json": write_scores,
    "figure.png": lambda path: write_png(path, figure()),
    "checkpoint_latest.pth": lambda path: Checkpointing().save_checkpoint(str(path)),
    **{f"mask{e}": lambda path: write_segmentation(path, LABELS, VOLUME) for e in (".nii.gz", ".nii", ".nrrd", ".mha")},
}


def check_at_many_bytes(write, path: Path, count: int = 12, varies: int = 0) -> None:
    """Let the write fail at many places from the first byte to the last, with an older file there and without.

    Args:
        write: takes the path.
        path: of the file.
        count: of places between the first byte and the last.
        varies: by so many bytes the size can differ from one time to the next.
    """
    write(path)
    whole = path.stat().st_size
    path.unlink()
    for limit in sorted({0, 1, *(whole * k // count for k in range(count)), whole - 1 - varies}):
        for older in (None, OLDER):
            if older is not None:
                path.write_bytes(older)
            with file_size_limit(limit), pytest.raises(UserError) as said:
                write(path)
            assert (path.read_bytes() if path.exists() else None) == older, f"of {whole} bytes {limit} were written"
            assert [file.name for file in path.parent.iterdir()] == ([path.name] if older else [])
            assert str(said.value) == f"{path} cannot be written: File too large."
            path.unlink(missing_ok=True)
    with file_size_limit(whole + varies):
        write(path)
    assert abs(path.stat().st_size - whole) <= varies


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file(tmp_path, name):
    check_at_many_bytes(WRITERS[name], tmp_path / name, 3 if name == "figure.png" else 12)


def test_a_copy(tmp_path, copied):
    check_at_many_bytes(lambda path: copy_file(copied, path), tmp_path / "image.nii.gz")


def test_a_dicom_seg(tmp_path):
    write_series(tmp_path / "ct", np.zeros((6, 40, 50), np.int16))
    volume = read_volume(tmp_path / "ct")
    labels = (np.random.default_rng(0).random((6, 40, 50)) > 0.5).astype(np.uint8)
    (tmp_path / "out").mkdir()
    # identifiers of different lengths
    check_at_many_bytes(lambda path: write_dicom_seg(path, labels, volume), tmp_path / "out" / "seg.dcm", 2, 300)


def test_installed_weights(tmp_path):
    """The file and the record of its checksum belong together."""
    brought = tmp_path / "sam2_hiera_tiny.pt"
    torch.save({"model": build_sam2_base("sam2_hiera_tiny", 64).state_dict()}, brought)
    whole, folder = brought.stat().st_size, tmp_path / "weights"
    folder.mkdir()
    target, record = folder / "sam2_hiera_tiny.pt", folder / "sam2_hiera_tiny.pt.sha256"
    for limit in (0, 10, whole // 2, whole - 1):
        target.write_bytes(OLDER)
        record.write_bytes(OLDER)
        with file_size_limit(limit), pytest.raises(UserError, match="cannot be written: File too large.$"):
            install_file(brought, folder, "sam2_hiera_tiny", True)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {target.name: OLDER, record.name: OLDER}
    install_file(brought, folder, "sam2_hiera_tiny", True)
    assert target.stat().st_size == whole


def test_a_synthetic_task(tmp_path):
    """Several files: those that are there are whole."""
    make_synthetic_task(tmp_path / "whole", 2)
    whole = {file.relative_to(tmp_path / "whole"): file for file in (tmp_path / "whole").rglob("*") if file.is_file()}
    for limit in (0, 700, 5000, 50_000):
        part = tmp_path / f"part{limit}"
        with file_size_limit(limit), pytest.raises(UserError, match="cannot be written: File too large.$"):
            make_synthetic_task(part, 2)
        for file in (file for file in part.rglob("*") if file.is_file()):
            assert file.read_bytes() == whole[file.relative_to(part)].read_bytes()


class Response:
    """The answer of a server that can go on where a download stopped."""

    headers = {"Content-Length": "200000"}
    status_code = 200

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def raise_for_status(self):
        pass

    def iter_content(self, size):
        yield from (bytes([k]) * 50_000 for k in range(4))


def test_a_download_keeps_what_arrived(tmp_path, monkeypatch):
    monkeypatch.setattr(download.requests, "get", lambda *_, **__: Response())
    partial = tmp_path / "a.pt.partial"
    with (
        file_size_limit(120_000),
        pytest.raises(UserError, match="a.pt.partial cannot be written: File too large; make"),
    ):
        download.download("https://example.org/a.pt", partial)
    assert partial.read_bytes() == bytes(50_000) + b"\1" * 50_000 + b"\2" * 20_000


@pytest.mark.parametrize("name", ["table.csv", "mask.nii.gz", "checkpoint_latest.pth"])
def test_a_folder_that_takes_no_file(tmp_path, name):
    (tmp_path / "file").write_bytes(OLDER)
    with pytest.raises(UserError, match=f"{name} cannot be written: (Not a directory|File exists)"):
        WRITERS[name](tmp_path / "file" / name)
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name} cannot be written: Is a directory"):
        WRITERS[name](tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["file", name])
