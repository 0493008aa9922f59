from types import SimpleNamespace

import pytest
import torch

from nnunetv2_sam2_3dmed.interactive.slice_features import SliceFeatureCache
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures, bound_on


def features(number: int) -> LevelFeatures:
    """Of 4 * (4 + 2 + 1) = 28 bytes."""
    return LevelFeatures(*(torch.full((length,), float(number)) for length in (4, 2, 1)))


def test_what_is_there_is_not_computed_again_and_the_oldest_goes_first():
    cache = SliceFeatureCache(max_bytes=60)
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
    cache = SliceFeatureCache(max_bytes=0)
    for key in (1, 2):
        cache.get([key], lambda unknown: [features(key) for key in unknown])
    assert 1 not in cache and 2 in cache and cache.bytes == 28


def test_several_come_back_in_order_and_only_unknown_ones_are_computed_at_once():
    cache = SliceFeatureCache(max_bytes=2 * 28)
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
    assert SliceFeatureCache(0).capacity(features(0)) == 1


def test_a_bound_below_nothing_is_refused():
    with pytest.raises(ValueError, match="max_bytes is -1"):
        SliceFeatureCache(-1)


def test_by_default_at_most_a_quarter_of_the_gpu_that_is_used(monkeypatch):
    memory = {0: 80 * 2**30, 1: 6 * 2**30}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory[device.index])
    )
    assert bound_on(torch.device("cpu")) == bound_on(torch.device("cuda", 0)) == 2 * 2**30
    assert bound_on(torch.device("cuda", 1)) == 1.5 * 2**30
    assert bound_on(torch.device("cuda", 1), 2**30) == 2**30
