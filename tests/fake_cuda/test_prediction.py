"""Every way to predict, on a GPU that is not there."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunetv2_sam2_3dmed.inference import predictor as predictor_module
from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.network.slice_cache import SliceCache
from tests.fake_cuda.checks import check, check_operations, check_results
from tests.fake_cuda.gpu import FakeGPU
from tests.inference.test_predictor import PATCH, predictor_for

# windows, eight in all, times two copies
BATCHES = {4: [8, 8], None: [2, 14]}


@pytest.fixture(autouse=True)
def without_numbers(monkeypatch):
    """Stand-in for what needs numbers: the weight of each voxel, made once, and the keys by which slices are known."""

    def gaussian(size: tuple[int, ...], device: torch.device, **_: Any) -> torch.Tensor:
        return torch.empty(size, dtype=torch.half, device=device)

    for module in (predict_from_raw_data, predictor_module):
        monkeypatch.setattr(module, "compute_gaussian", gaussian)
    seen = iter(range(1000))
    monkeypatch.setattr(SliceCache, "_keys", lambda _, slices: [(next(seen), 0) for _ in slices])
    monkeypatch.setattr(torch.Tensor, "data_ptr", lambda tensor: builtins.id(tensor))


def network_on(gpu: FakeGPU, **options: Any) -> SAM2_3dMed:
    return gpu.hold(SAM2_3dMed(1, 3, image_size=64, num_slices=4, **options)).eval()


def recorded(network: nn.Module) -> list[Any]:
    """All that the network will return."""
    results: list[Any] = []
    network.register_forward_hook(lambda _, __, logits: results.append(logits))
    return results


@pytest.mark.parametrize("options", [{}, {"boundary_branch": "fused", "bidirectional": True}], ids=["plain", "fused"])
def test_nnunets_predictor(options, make_gpu):
    """A window and its mirrored copies, within nnU-Net's autocast, without the thread that cuts windows out."""
    gpu = make_gpu()
    network = network_on(gpu, **options)
    results = recorded(network)
    predictor = predictor_for(network, nnUNetPredictor, mirroring=(1, 2), device=gpu.device)
    window = gpu.empty(1, 1, *PATCH)
    with gpu.running() as watch, torch.autocast("cuda"):
        results.append(predictor._internal_maybe_mirror_and_predict(window))
    check_results(results, gpu.device)
    assert [tuple(logits.shape) for logits in results] == [(1, 3, *PATCH)] * 5
    check(watch, torch.bfloat16)


@pytest.mark.parametrize(
    "options, number, capability, dtype",
    [
        ({"windows_at_once": 4}, 1, (7, 5), torch.float16),
        ({}, 0, (8, 0), torch.bfloat16),
    ],
    ids=["four", "chosen"],
)
def test_our_predictor(options, number, capability, dtype, make_gpu):
    """Volume of 9 slices and 30 rows; "chosen": the first window shows what one needs, and the others follow."""
    gpu = make_gpu(f"cuda:{number}", capability=capability)
    network = network_on(gpu)
    results = recorded(network)
    predictor = predictor_for(network, SAM2_3dMedPredictor, mirroring=(2,), device=gpu.device, **options)
    gpu.numbers["predictor._sum_over_windows"] = 0  # nothing is infinite
    volume = gpu.empty(1, 9, 30, 20, device="cpu")
    with gpu.running() as watch:
        logits = predictor.predict_sliding_window_return_logits(volume)
    assert logits.device == gpu.device and logits.dtype == torch.half and logits.shape == (3, 9, 30, 20)
    check_results(results, gpu.device)
    assert [len(result) for result in results] == BATCHES[options.get("windows_at_once")]
    # the volume goes there, and whether all is finite comes back
    check(watch, dtype, ["predictor._sum_over_windows"] * 2)


def test_session(make_gpu):
    """Prompts and masks come and go; everything between them is on the GPU."""
    gpu = make_gpu("cuda:1")
    model = gpu.hold(build_sam2_base("sam2.1_hiera_tiny", 64)).eval()
    results: list[Any] = []
    with gpu.running() as watch:
        session = InteractiveSession(model, gpu.device)
        session.set_image(np.random.default_rng(0).random((9, 24, 20)), spacing=(2.5, 1, 1), window=(0.5, 1))
        session.add_box((2, 4, 4), (2, 9, 9), object_id=1)
        session.add_points([(2, 6, 6)], object_id=1)
        session.add_mask(np.ones((24, 20), bool), 3, object_id=2)
        assert session.propagate()
        assert session.mask(1).all()  # all numbers that are read are 1
        for track in session._objects.tracks.values():
            results += [output._replace(memory=None) for output in track.tracked.values()]
            assert {output.memory.dtype for output in track.tracked.values()} == {torch.bfloat16}
    check_results(results, torch.device("cpu"))  # what a session knows rests on the host
    check_operations(watch, torch.bfloat16)
