"""The example notebook runs from top to bottom, as a user would run it with weights installed."""

import sys
from pathlib import Path

import nbformat
import pytest
import SimpleITK as sitk
import torch
from nbclient import NotebookClient

from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2
from tests.interactive.reference import random_weights

NOTEBOOK = Path(__file__).parents[1] / "examples" / "segment_with_prompts.ipynb"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The notebook's outputs after a run in an empty folder, with random weights in place of MedSAM2's."""
    (tmp_path / "weights").mkdir()
    torch.save({"model": random_weights()}, tmp_path / "weights" / f"{MEDSAM2}.pt")
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": sys.executable, "language": "python"}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    return notebook, tmp_path


def test_every_cell_runs_and_the_files_are_there(run):
    notebook, folder = run
    assert {path.name for path in folder.iterdir()} >= {"labels.nii.gz", "prompts.json", "result.png"}
    labels = sitk.ReadImage(folder / "labels.nii.gz")
    assert labels.GetSize() == (128, 128, 24) and labels.GetSpacing() == (1.0, 1.0, 3.0)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3


def test_it_is_committed_without_outputs():
    """Pictures of other people's images do not belong into a repository, and outputs make every change a conflict."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
