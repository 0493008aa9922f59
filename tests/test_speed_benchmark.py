"""The speed benchmark on the smallest sizes, against what can be worked out by hand."""

import json
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
# windows of 2 slices over 3: at 0 and 1
TINY = {
    "image_sizes": [64],
    "volume_slices": 3,
    "full_slices": 8,
    "patch_slices": 2,
    "nnunet_patch": [16, 32, 32],
    "repeats": 1,
    "training_image_size": 64,
    "training_repeats": 1,
    "classes_image_size": 64,
    "classes": [1, 3],
    "slices_image_size": 64,
    "slices": [2, 4, 8],
    "slices_measured": 0,
    "matrix_sizes": [256],
}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Run the command for some of its parts and return their results and the folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    speed, contenders = import_module("speed"), import_module("speed_parts.contenders")
    monkeypatch.setattr(contenders, "precisions", lambda device: ("float32",))
    kinds = ("ours", "stock_windows", "nnunet_3d_fullres", "video_3")
    monkeypatch.setattr(import_module("speed_parts.prediction"), "KINDS", kinds)

    def run(*parts: str) -> dict:
        folders = ["--results", str(tmp_path), "--images", str(tmp_path)]
        sizes = [f"{name}={json.dumps(value)}" for name, value in TINY.items()]
        speed.main(["-device", "cpu", *folders, "--only", *parts, "--set", *sizes])
        written = json.loads((tmp_path / "speed_cpu.json").read_text())["parts"]
        return {part: written[part]["result"] for part in parts}

    return run


def test_prediction(measure, make_network):
    from nnunetv2_sam2_3dmed.report.operations import count_operations

    result = measure("matrix_rate", "prediction")
    rate = result["matrix_rate"]["float32"]["tflop_per_second"]
    found = result["prediction"]["64"]
    contenders = found["contenders"]
    assert not [c for c in contenders.values() if "failed" in c]
    encoded = {name.split("/")[0]: c["encoded_slices"] for name, c in contenders.items()}
    assert encoded == {
        "ours": 3,
        "stock_windows": 2 * 2,
        "video_3": 3,
        "nnunet_3d_fullres": None,
    }
    patch = count_operations(make_network(4).eval(), (1, 1, 2, 64, 64))
    stock, ours = patch.patch * 2, (patch.patch - patch.encoding) * 2 + patch.encoding / 2 * 3
    assert contenders["stock_windows/float32"]["gflop"] == pytest.approx(stock / 1e9, abs=1e-3)
    assert contenders["ours/float32"]["gflop"] == pytest.approx(ours / 1e9, abs=1e-3)
    ratio = found["ratios"]["stock_windows/float32 : ours/float32"]
    assert ratio["operations"] == pytest.approx(stock / ours, abs=1e-3)
    a, b = (contenders[f"{name}/float32"]["median_seconds"] for name in ("stock_windows", "ours"))
    assert ratio["seconds"] == pytest.approx(a / b, rel=0.01)
    for contender in contenders.values():
        speed = contender["gflop"] / contender["median_seconds"] / 1e3
        assert contender["share_of_matrix_rate"] == pytest.approx(speed / rate, rel=0.02)
        assert contender["peak_mib"] > 0
    # 8 slices have windows at 0, 1, ..., 6; patches lie at 0, and at 0, 16 and 32 in the plane: nothing was measured
    # there
    assert contenders["stock_windows/float32"]["full_volume"]["how"].endswith("3.500 times the windows")
    assert contenders["nnunet_3d_fullres/float32"]["full_volume"]["how"].endswith("9.000 times the patches")
    assert contenders["nnunet_3d_fullres/float32"]["predicted"] == [16, 32, 32]
    assert found["ratios"]["nnunet_3d_fullres/float32 : ours/float32"]["how"] == "extrapolated to the full volume"


def test_training_classes_and_slices(measure, tmp_path):
    result = measure("training", "classes", "slices")
    training = result["training"]
    assert training["ours"]["trainer"] == "SAM2_3dMedTrainer" and training["ours"]["patch"] == [2, 64, 64]
    assert training["nnunet_3d_fullres"]["trainer"] == "nnUNetTrainer"
    for found in (training["ours"], training["nnunet_3d_fullres"]):
        assert found["gflop"] > 0 and found["median_seconds"] > 0
    one, three = (result["classes"]["by_classes"][n] for n in "13")
    assert one["gflop_ratio"] == 1 < three["gflop_ratio"] < 1.1
    rows = result["slices"]["counted"]["rows"]
    assert [row["windows"] for row in rows] == [1, 3, 7]
    assert [row["stock_windows"]["encoded_slices"] for row in rows] == [2, 6, 14]
    assert [row["cached_windows"]["encoded_slices"] for row in rows] == [2, 4, 8]
    assert rows[0]["stock_windows"]["gflop"] == rows[0]["cached_windows"]["gflop"]
    assert {file.name for file in tmp_path.glob("*.png")} == {"speed_slices_cpu.png", "speed_classes_cpu.png"}
