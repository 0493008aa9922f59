import copy
import pickle

import pytest
import torch

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures, SliceCache


class CountingEncoder:
    """Features that say which slice they are of: 3 x 4 bytes a slice."""

    def __init__(self) -> None:
        self.weight = torch.ones(1)
        self.encoded: list[int] = []  # slices per call

    def __call__(self, slices: torch.Tensor) -> LevelFeatures:
        self.encoded.append(len(slices))
        means = slices.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1) * self.weight
        return LevelFeatures(means, 2 * means, 3 * means)


def slices(*values: float) -> torch.Tensor:
    """One channel of 2 x 2 voxels, all of the value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def encode(cache: SliceCache, encoder: CountingEncoder, *values: float) -> list[float]:
    levels = cache.encode(slices(*values), encoder, [encoder.weight])
    torch.testing.assert_close(levels.stride8, 2 * levels.stride4)
    torch.testing.assert_close(levels.stride16, 3 * levels.stride4)
    return levels.stride4.flatten().tolist()


def test_only_new_slices_are_encoded_and_all_come_back_in_order():
    cache, encoder = SliceCache(), CountingEncoder()
    assert encode(cache, encoder, 1, 2, 3) == [1, 2, 3]
    assert encode(cache, encoder, 4, 3, 2) == [4, 3, 2]
    assert encode(cache, encoder, 1, 1, 4) == [1, 1, 4]
    assert encoder.encoded == [3, 1]


def test_a_slice_that_comes_twice_is_encoded_once():
    cache, encoder = SliceCache(), CountingEncoder()
    assert encode(cache, encoder, 0, 7, 0, 0) == [0, 7, 0, 0]
    assert encoder.encoded == [2]


def test_slices_with_the_same_voxels_in_other_places_differ():
    cache, encoder = SliceCache(), CountingEncoder()
    ramp = torch.arange(4.0).view(1, 1, 2, 2)
    cache.encode(torch.cat([ramp, ramp.flip(-1), -ramp, ramp.transpose(-1, -2)]), encoder, [encoder.weight])
    assert encoder.encoded == [4]


def test_what_was_not_used_for_longest_goes_first():
    cache, encoder = SliceCache(max_bytes=2 * 12), CountingEncoder()
    encode(cache, encoder, 1, 2)
    encode(cache, encoder, 1)  # 2 is the older one now
    encode(cache, encoder, 3)
    encode(cache, encoder, 1, 3)
    assert encoder.encoded == [2, 1]
    encode(cache, encoder, 2)
    assert encoder.encoded == [2, 1, 1]


def test_more_slices_than_fit_still_come_back():
    cache, encoder = SliceCache(max_bytes=12), CountingEncoder()
    assert encode(cache, encoder, 1, 2, 3) == [1, 2, 3]


def test_a_changed_weight_empties_it():
    cache, encoder = SliceCache(), CountingEncoder()
    encode(cache, encoder, 1)
    encoder.weight.mul_(5)
    assert encode(cache, encoder, 1) == [5]
    assert encoder.encoded == [1, 1]


def test_copies_and_files_start_empty():
    cache, encoder = SliceCache(max_bytes=99), CountingEncoder()
    encode(cache, encoder, 1)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.max_bytes == 99
        encode(other, encoder, 1)
    assert encoder.encoded == [1, 1, 1]


@pytest.fixture(scope="module")
def network() -> SAM2_3dMed:
    torch.manual_seed(0)
    return SAM2_3dMed(1, 3, image_size=64, num_slices=4, srpp=False, boundary=False, precision="float32").eval()


def encoded_slices(network: SAM2_3dMed) -> list[int]:
    counts: list[int] = []
    network.encoder.trunk.register_forward_pre_hook(lambda _, images: counts.append(len(images[0])))
    return counts


def test_overlapping_and_flipped_windows_give_the_same_logits_from_slices_encoded_once(network):
    volume = torch.randn(1, 1, 8, 24, 20)
    windows = [volume[:, :, i : i + 4] for i in (0, 2, 4)]
    windows += [w.flip(2) for w in windows] + [w.flip(-1) for w in windows]  # left and right are other slices
    with torch.no_grad():
        expected = [network(w) for w in windows]
    counts = encoded_slices(network)
    with torch.inference_mode():
        for window, logits in zip(windows, expected, strict=True):
            torch.testing.assert_close(network(window), logits, rtol=0, atol=1e-4)
    assert counts == [4, 2, 2] * 2


def test_other_weights_give_other_logits(network):
    """As when nnU-Net predicts with the parameters of one fold after another."""
    network, other = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.encoder.neck.parameters():
            parameter.mul_(1.5)
    window = torch.randn(1, 1, 4, 24, 20)
    with torch.inference_mode():
        network(window)
        network.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(window), other(window), rtol=0, atol=1e-5)


def test_other_weights_give_other_logits_in_a_network_built_in_inference_mode(network):
    """Whose changes torch does not count."""
    window = torch.randn(1, 1, 4, 24, 20)
    with torch.inference_mode():
        built = copy.deepcopy(network)
        other = copy.deepcopy(network)
        for parameter in built.parameters():
            parameter.data = parameter.data.clone()
        for parameter in other.encoder.neck.parameters():
            parameter.mul_(1.5)
        built(window)
        built.load_state_dict(other.state_dict())
        torch.testing.assert_close(built(window), other(window), rtol=0, atol=1e-5)


def test_when_memory_runs_out_the_features_go_first(network, monkeypatch):
    network = copy.deepcopy(network)
    window = torch.randn(1, 1, 4, 24, 20)
    with torch.inference_mode():
        expected = network(window)
        counts = encoded_slices(network)
        propagate, full = network.segmentation.propagate, [True]

        def fails_once(projected, **options):
            if full.pop():
                full.append(False)
                raise torch.OutOfMemoryError("out of memory")
            return propagate(projected, **options)

        monkeypatch.setattr(network.segmentation, "propagate", fails_once)
        torch.testing.assert_close(network(window), expected)
    assert counts == [4]  # nothing was new before, all is after


def test_training_and_plain_evaluation_keep_nothing(network):
    network = copy.deepcopy(network)
    network.train()
    with torch.no_grad():
        network(torch.randn(1, 1, 4, 24, 20))
    network.eval()
    counts = encoded_slices(network)
    window = torch.randn(1, 1, 4, 24, 20)
    with torch.no_grad():
        network(window)
        network(window)
    assert counts == [4, 4]
