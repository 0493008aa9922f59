import torch
from torch import nn

from nnunetv2_sam2_3dmed.network.low_rank import LowRankLinear


def test_it_starts_as_the_frozen_layer_and_adds_the_product_of_two_small_matrices():
    frozen = nn.Linear(6, 4)
    layer = LowRankLinear(frozen, rank=2)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), frozen(x))
    nn.init.normal_(layer.lora_up)
    expected = x @ (frozen.weight + layer.lora_up @ layer.lora_down).T + frozen.bias
    torch.testing.assert_close(layer(x), expected)


def test_only_the_updates_of_a_frozen_trunk_train(make_network, patches):
    network = make_network(lora_rank=3)
    trained = {n for n, p in network.encoder.trunk.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    # queries, keys and values together, and the output, of each of the tiny trunk's twelve blocks
    assert len(trained) == 12 * 2 * 2
    network(patches).masks.sum().backward()
    ups = [p for n, p in network.encoder.trunk.named_parameters() if n.endswith("lora_up")]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ups)


def test_names_of_the_frozen_tensors_stay_so_that_checkpoints_fit(make_network):
    plain, updated = set(make_network().state_dict()), set(make_network(lora_rank=3).state_dict())
    assert plain < updated and all("lora_" in name for name in updated - plain)
