import copy
import pickle
from types import SimpleNamespace

import pytest
import torch

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.slice_cache import FeatureCache, LevelFeatures, SliceCache, bound_on


def features(number: int) -> LevelFeatures:
    """Features of 4 * (4 + 2 + 1) = 28 bytes."""
    return LevelFeatures(*(torch.full((length,), float(number)) for length in (4, 2, 1)))


def test_what_is_kept_of_a_batch_does_not_keep_all_of_it():
    cache = FeatureCache(max_bytes=2**20)
    batch = torch.zeros(5, 1, 3, 3)
    cache.get(range(5), lambda unknown: [LevelFeatures(one, one, one) for one in batch.split(1)])
    for level in cache.get([3], lambda unknown: [])[0]:
        assert level.untyped_storage().nbytes() == 4 * 9


def test_what_is_there_is_not_computed_again_and_the_oldest_goes_first():
    cache = FeatureCache(max_bytes=60)
    asked = []

    def get(key):
        (found,) = cache.get([key], lambda unknown: asked.extend(unknown) or [features(key) for key in unknown])
        return found.stride4[0].item()

    assert [get(key) for key in (1, 2, 1, 3)] == [1, 2, 1, 3]
    assert asked == [1, 2, 3]
    assert 2 not in cache and 1 in cache and 3 in cache
    assert cache.bytes == 56 and len(cache) == 2
    cache.clear()
    assert cache.bytes == 0 and len(cache) == 0


def test_a_single_slice_may_be_larger_than_the_bound():
    cache = FeatureCache(max_bytes=0, at_least=1)
    for key in (1, 2):
        cache.get([key], lambda unknown: [features(key) for key in unknown])
    assert 1 not in cache and 2 in cache and cache.bytes == 28


def test_several_come_back_in_order_and_only_unknown_ones_are_computed_at_once():
    cache = FeatureCache(max_bytes=2 * 28)
    asked = []

    def get(*keys):
        found = cache.get(keys, lambda unknown: asked.append(list(unknown)) or [features(key) for key in unknown])
        return [one.stride16.item() for one in found]

    assert get(5) == [5]
    assert get(7, 5, 6, 4) == [7, 5, 6, 4]  # more than fit
    assert asked == [[5], [7, 6, 4]]
    assert 6 in cache and 4 in cache and len(cache) == 2
    assert get(4, 6) == [4, 6] and len(asked) == 2
    assert cache.capacity(features(0)) == 2
    assert FeatureCache(0).capacity(features(0)) == 1


def test_a_bound_below_nothing_is_refused():
    with pytest.raises(ValueError, match="max_bytes is -1"):
        FeatureCache(-1)


def test_by_default_at_most_a_quarter_of_the_gpu_that_is_used(monkeypatch):
    memory = {0: 80 * 2**30, 1: 6 * 2**30}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory[device.index])
    )
    assert bound_on(torch.device("cpu")) == bound_on(torch.device("cuda", 0)) == 2 * 2**30
    assert bound_on(torch.device("cuda", 1)) == 1.5 * 2**30
    assert bound_on(torch.device("cuda", 1), 2**30) == 2**30


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
    return SAM2_3dMed(1, 3, image_size=32, num_slices=2, srpp=False, boundary=False, precision="float32").eval()


def encoded_slices(network: SAM2_3dMed) -> list[int]:
    counts: list[int] = []
    network.encoder.trunk.register_forward_pre_hook(lambda _, images: counts.append(len(images[0])))
    return counts


def test_overlapping_and_flipped_windows_give_the_same_logits_from_slices_encoded_once(network):
    volume = torch.randn(1, 1, 3, 24, 20)
    windows = [volume[:, :, i : i + 2] for i in (0, 1)]
    windows += [w.flip(2) for w in windows] + [w.flip(-1) for w in windows]  # left and right are other slices
    with torch.no_grad():
        expected = [network(w) for w in windows]
    counts = encoded_slices(network)
    with torch.inference_mode():
        for window, logits in zip(windows, expected, strict=True):
            torch.testing.assert_close(network(window), logits, rtol=0, atol=1e-4)
    assert counts == [2, 1] * 2


def test_other_weights_give_other_logits(network):
    """As when nnU-Net predicts with the parameters of one fold after another."""
    network, other = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.encoder.neck.parameters():
            parameter.mul_(1.5)
    window = torch.randn(1, 1, 2, 24, 20)
    with torch.inference_mode():
        network(window)
        network.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(window), other(window), rtol=0, atol=1e-5)


def test_other_weights_give_other_logits_in_a_network_built_in_inference_mode(network):
    """Parameter whose changes torch does not count."""
    window = torch.randn(1, 1, 2, 24, 20)
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
    window = torch.randn(1, 1, 2, 24, 20)
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
    assert counts == [2]  # nothing was new before, all is after


def test_training_and_plain_evaluation_keep_nothing(network):
    network = copy.deepcopy(network)
    network.train()
    with torch.no_grad():
        network(torch.randn(1, 1, 2, 24, 20))
    network.eval()
    counts = encoded_slices(network)
    window = torch.randn(1, 1, 2, 24, 20)
    with torch.no_grad():
        network(window)
        network(window)
    assert counts == [2, 2]
