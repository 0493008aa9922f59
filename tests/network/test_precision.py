import pytest
import torch

from nnunetv2_sam2_3dmed.network.precision import as_autocast_would, autocast, dtype_for


@pytest.fixture
def asked(monkeypatch):
    """GPUs of which the second, an older one, is not the current one; the devices that were asked for."""
    devices = []

    def capability(device=None):
        devices.append(device)
        return (7, 5) if device == torch.device("cuda:1") else (8, 0)

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: pytest.fail("asks the current device"))
    return devices


def test_a_gpu_without_bfloat16_gets_float16_whatever_the_current_one_has(asked):
    assert dtype_for(torch.device("cuda:0")) == torch.bfloat16
    assert dtype_for(torch.device("cuda:1")) == torch.float16
    assert asked == [torch.device("cuda:0"), torch.device("cuda:1")]


def test_a_cpu_without_bfloat16_stays_in_float32(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert dtype_for(torch.device("cpu")) == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    with autocast(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_what_is_stated_is_done(precision):
    dtype = getattr(torch, precision)
    device = torch.device("cpu")
    assert dtype_for(device, precision) == dtype
    # over whatever the caller is in
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(device, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert as_autocast_would(torch.ones(1)).dtype == dtype


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="precision is 'int8', but must be one of auto, bfloat16, float16, float32"):
        autocast(torch.device("cpu"), "int8")


def test_float16_trains_and_predicts_as_float32_to_rounding(make_network, patches):
    """Scaled steps, as GradScaler does them on GPUs without bfloat16: losses and gradients are scaled in between."""
    results = []
    for precision in ("float32", "float16"):
        torch.manual_seed(0)
        network = make_network(precision=precision, dropout=0.0)
        output = network(patches)
        scale = 1024.0
        (output.masks.sigmoid().mean() * scale).backward()
        gradients = torch.cat([p.grad.flatten() / scale for p in network.segmentation.memory_attention.parameters()])
        assert output.masks.dtype == output.boundaries.dtype == output.offsets.dtype == torch.float32
        results.append((output.masks.detach(), gradients, network.eval()(patches).detach()))
    for full, half in zip(*results, strict=True):
        assert half.isfinite().all()
        assert (half - full).norm() < 0.05 * full.norm()
