"""Bad inputs of all kinds: each ends with one sentence and status 2, and leaves what was there as it was."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import session
from tests import bad_inputs
from tests.bad_inputs.row import Place, Row
from tests.interactive.reference import build, random_weights

TABLES = {
    module.name: importlib.import_module(f"{bad_inputs.__name__}.{module.name}").ROWS
    for module in pkgutil.iter_modules(bad_inputs.__path__)
    if module.name != "row"
}
KEPT = "out/.cache/*.json"  # a comparison keeps the scores of the cases that it could read
ROWS = [(table, row) for table, rows in TABLES.items() for row in rows]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[Path]:
    """A file with random weights, which sessions get from memory: loading is seconds, and not what is tested."""
    torch.manual_seed(0)
    weights = random_weights()
    path = tmp_path_factory.mktemp("model") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": weights}, path)
    network, load = build(weights), session.load_model

    def load_model(name_or_path, image_size=None):
        return network if Path(name_or_path) == path else load(name_or_path, image_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load_model", load_model)
        yield path


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, and of where links lead to."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table}: {row.name}" for table, row in ROWS])
def test_a_bad_input_ends_with_one_sentence(table: str, row: Row, model, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    monkeypatch.setenv("nnUNet_extTrainer", "")
    monkeypatch.delenv("SAM2_3dMed_debug", raising=False)
    for name, value in row.environment.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    given = row.make(Place(folder, np.random.default_rng(zlib.crc32(row.name.encode())), model))
    before = digests(folder)
    capfd.readouterr()

    if callable(given):
        with pytest.raises(UserError) as error:
            given()
        sentence = str(error.value)
        assert "\n" not in sentence
    else:
        words = [str(word) for word in given]
        try:
            status = main(words)
        except SystemExit as end:  # of argparse
            status = end.code
        told = capfd.readouterr()
        lines = told.err.splitlines()
        assert status == 2, told.err
        assert "Traceback" not in told.err + told.out
        assert len([line for line in lines if line.startswith("sam2_3dmed")]) == len(lines) == 1, told.err
        sentence = lines[-1]
    for part in row.says:
        assert part.format(folder=folder) in sentence
    after = digests(folder)
    assert {name: after.get(name) for name in before} == before
    new = [name for name in after if name not in before and not any(Path(name).match(p) for p in (KEPT, *row.writes))]
    assert not new


def test_there_are_no_two_rows_of_one_name():
    for rows in TABLES.values():
        names = [row.name for row in rows]
        assert len(names) == len(set(names))
