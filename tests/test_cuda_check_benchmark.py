"""The check of a GPU: it runs on a CPU too, and the docs have the figures of its result file."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "cuda_check.json").read_text())
TUNED = "SAM2_3dMedTrainer_noPretrain_tuned"


@pytest.fixture
def cuda_check(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield import_module("cuda_check")
    sys.modules.pop("cuda_check", None)


def test_it_runs_on_a_cpu(cuda_check, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_check, "STEPS", ((64, 2, 1),))
    output = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["cuda_check", "-device", "cpu", "--output", str(output)])
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    cuda_check.main()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    found = json.loads(output.read_text())
    assert not [part for part in cuda_check.PARTS if "failed" in found[part]]
    assert found["agreement"]["eager, float32"]["logits"] == found["agreement"]["eager, float32"]["gradients"] == 0
    assert found["prompts"]["cpu, float32"] == 0 and 0 < found["prompts"]["foreground"] < 1
    assert found["windows"]["other labels"] == 0 and found["windows"]["logits"] < 1e-4
    assert set(found["steps"]) == {f"{name}: 64 pixels, 2 slices, batch 1" for name in (TUNED, "SAM2_3dMedTrainer")}


@pytest.mark.parametrize("size, slices, batch", [(64, 6, 8), (128, 6, 16), (256, 12, 4)])
def test_the_docs_have_these_figures(size, slices, batch):
    text = (ROOT / "docs" / "explanation" / "speed.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| {size} px, {slices}, {batch} |"))
    name = f"{TUNED}: {size} pixels, {slices} slices, batch {batch}"
    alone, found = RESULTS["steps, without graphs, nothing else running"][name], RESULTS["steps"][name]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        f"{alone['seconds']:.2f}",
        f"{found['seconds']:.2f}",
        f"{found['seconds, graph']:.3f}",
        f"{found['seconds of the first steps']:.1f}",
        f"{found['peak GiB']:.1f}, graph {found['peak GiB, graph']:.1f}",
    ]
    assert found["failures"] == []
