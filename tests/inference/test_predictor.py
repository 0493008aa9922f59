"""SAM2_3dMedPredictor beside nnU-Net's own predictor, with the same network."""

import traceback

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
from nnunetv2_sam2_3dmed.inference.windows_at_once import WindowsAtOnce
from nnunetv2_sam2_3dmed.network import slice_encoder

CPU = torch.device("cpu")
PATCH = (4, 24, 20)
DATASET = {"labels": {"background": 0, "outer": 1, "inner": 2}, "channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"}


def predictor_for(
    network: nn.Module, cls=SAM2_3dMedPredictor, mirroring=None, device=CPU, **options
) -> nnUNetPredictor:
    architecture = {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []}
    configuration = {"patch_size": list(PATCH), "batch_size": 2, "architecture": architecture}
    plans = PlansManager({"configurations": {"3d": configuration}})
    predictor = cls(device=device, allow_tqdm=False, **options)
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d"), None, DATASET, "SAM2_3dMedTrainer", mirroring
    )
    return predictor


@pytest.fixture
def network(make_network):
    return make_network(srpp=False, boundary=False).eval()


def encoded_slices(network: nn.Module) -> list[int]:
    counts: list[int] = []
    network.encoder.trunk.register_forward_pre_hook(lambda _, images: counts.append(len(images[0])))
    return counts


class Counting(nn.Module):
    """Three heads that are the image plus 0, 1 and 2; says how large its batches were, or that they are too large."""

    def __init__(self, most: int = 1000):
        super().__init__()
        self.most = most
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return torch.cat([x, x + 1, x + 2], dim=1)


class Ramp(Counting):
    """Network that adds the place in the window to the image, so that the orientation of a window matters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = sum((i + 1) * torch.arange(n).view([-1] + [1] * (2 - i)) / n for i, n in enumerate(x.shape[2:]))
        return super().forward(x + places)


@pytest.mark.parametrize("windows, mirroring", [(1, None), (4, (0, 2)), (64, (2,)), (None, (2,))])
def test_the_logits_are_nnunets(network, windows, mirroring):
    volume = torch.randn(1, 7, 30, 20)
    expected = predictor_for(network, nnUNetPredictor, mirroring).predict_sliding_window_return_logits(volume)
    ours = predictor_for(network, mirroring=mirroring, windows_at_once=windows)
    if mirroring is not None:
        unmirrored = predictor_for(network).predict_sliding_window_return_logits(volume)
        assert (unmirrored - expected).abs().max() > 0.02
    # both are sums in half precision; float32 differs by rounding alone
    torch.testing.assert_close(ours.predict_sliding_window_return_logits(volume), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("mirroring", [None, (2,), (0, 1, 2)])
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_the_sums_of_another_network_are_exactly_nnunets(mirroring, gaussian, together, monkeypatch):
    monkeypatch.setattr(WindowsAtOnce, "copies_together", property(lambda _: together, lambda *_: None), raising=False)
    volume = torch.randn(1, 9, 30, 25)
    options = {"mirroring": mirroring, "use_gaussian": gaussian}
    expected = predictor_for(Ramp(), nnUNetPredictor, **options).predict_sliding_window_return_logits(volume)
    ours = predictor_for(Ramp(), windows_at_once=5, **options)
    assert torch.equal(ours.predict_sliding_window_return_logits(volume), expected)


def test_a_volume_smaller_than_a_patch_is_padded_and_cut_as_nnunets():
    volume = torch.randn(1, 3, 30, 9)
    expected = predictor_for(Counting(), nnUNetPredictor).predict_sliding_window_return_logits(volume)
    assert torch.equal(predictor_for(Counting()).predict_sliding_window_return_logits(volume), expected)


def test_windows_go_in_batches_of_about_one_size_with_their_mirrored_copies(network):
    predictor = predictor_for(network, mirroring=(1, 2), windows_at_once=4)
    stacks = []
    network.register_forward_pre_hook(lambda _, patches: stacks.append(len(patches[0])))
    predictor.predict_sliding_window_return_logits(torch.zeros(1, 12, 24, 20))  # starts 0, 2, 4, 6, 8
    assert stacks == [3 * 4, 2 * 4]


def test_when_memory_runs_out_there_are_fewer_windows_at_once():
    network = Counting(most=2)
    predictor = predictor_for(network, windows_at_once=8, use_gaussian=False)
    volume = torch.randn(1, 12, 24, 20)
    logits = predictor.predict_sliding_window_return_logits(volume)
    torch.testing.assert_close(logits[1], volume[0].half() + 1, rtol=5e-3, atol=5e-3)
    assert network.batches == [5, 2, 2, 1]
    network.batches.clear()
    predictor.predict_sliding_window_return_logits(volume)
    assert network.batches == [5, 2, 2, 1], "another volume may find more memory"


def test_when_a_window_does_not_fit_with_its_mirrored_copies_they_go_one_by_one(network):
    volume = torch.randn(1, 7, 24, 20)
    predictor = predictor_for(network, mirroring=(2,))
    expected = predictor.predict_sliding_window_return_logits(volume)
    run, batches = network.forward, []

    def limited(x):
        batches.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return run(x)

    network.forward = limited
    found = predictor.predict_sliding_window_return_logits(volume)
    assert batches == [6, 2, *[1] * 6]  # three windows with their copies; then one; then one by one
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_when_one_window_does_not_fit_it_says_so():
    with pytest.raises(torch.OutOfMemoryError, match="single window"):
        predictor_for(Counting(most=0)).predict_sliding_window_return_logits(torch.zeros(1, 4, 24, 20))


def test_an_error_holds_nothing_of_what_failed():
    """nnU-Net tries again, with the sum on the CPU, while it handles the error."""
    try:
        predictor_for(Counting(most=0)).predict_sliding_window_return_logits(torch.zeros(1, 4, 24, 20))
    except torch.OutOfMemoryError as error:
        assert error.__context__ is None
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert "_sum_over_windows" not in names and "_predict" not in names


def test_each_slice_tile_and_mirrored_copy_is_encoded_once(network):
    counts = encoded_slices(network)
    predictor = predictor_for(network, mirroring=(0, 2), windows_at_once=3)
    predictor.predict_sliding_window_return_logits(torch.randn(1, 9, 30, 20))
    tiles = 2
    assert sum(counts) == 9 * tiles * 2  # left and right are other slices, the way back over slices is not


def test_a_batch_is_encoded_in_parts(network, monkeypatch):
    volume = torch.randn(1, 9, 24, 20)
    expected = predictor_for(network, windows_at_once=8).predict_sliding_window_return_logits(volume)
    network.slice_cache.clear()
    monkeypatch.setitem(slice_encoder.ENCODED_PIXELS, "cpu", 2 * 64 * 64)
    counts = encoded_slices(network)
    parts = predictor_for(network, windows_at_once=8).predict_sliding_window_return_logits(volume)
    assert counts == [2, 2, 2, 2, 1]
    torch.testing.assert_close(parts, expected, rtol=2e-3, atol=2e-3)
