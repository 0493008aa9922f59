import copy

import pytest
import torch

from nnunetv2_sam2_3dmed.training.losses import SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker


def test_shapes_in_training_and_in_eval_mode(make_network, patches):
    network = make_network(num_classes=3)
    output = network(patches)
    assert output.masks.shape == output.boundaries.shape == (2, 6, 2, 16, 16)
    assert output.offsets.shape == (2, 6, 6)
    logits = network.eval()(patches)
    assert logits.shape == (2, 3, 6, 24, 20) and logits.dtype == torch.float32


def test_background_is_the_constant_zero_with_labels_and_absent_with_regions(make_network, patches):
    assert (make_network(num_classes=3).eval()(patches)[:, 0] == 0).all()
    regions = make_network(num_classes=3, regions=True).eval()(patches)
    assert regions.shape[1] == 3 and (regions[:, 0] != 0).any()


@torch.no_grad()
def test_memory_carries_an_edit_forward_and_never_back(make_network, patches):
    network = make_network().eval()
    edited = patches.clone()
    edited[:, :, 3] += 2
    change = (network(patches) - network(edited)).abs().amax(dim=(0, 1, 3, 4))
    assert (change[:3] == 0).all(), "slices 0 to 2 come before the edit"
    assert (change[4:] > 1e-4).all(), "slices 4 and 5 remember the edited slice"


def test_srpp_alone_moves_parameters_that_the_masks_depend_on(make_network, patches):
    network = make_network()
    network(patches).offsets.square().sum().backward()
    from_srpp = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    network.zero_grad(set_to_none=True)
    network(patches).masks.square().sum().backward()
    from_masks = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    shared = from_srpp & from_masks
    assert shared and all(name.startswith("encoder.neck.") for name in shared), "the trunk is frozen"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze_trunk": False},
        {"srpp": False},
        {"srpp_memory": True},
        {"boundary": False},
        {"boundary_fusion": False},
        {"boundary_branch": "shared"},
        {"boundary_branch": "fused"},
        {"boundary_branch": "fused", "bidirectional": True},
        {"activation_checkpointing": True, "freeze_trunk": False},
        {"num_memories": 1},
        {"regions": True},
        {"input_channels": 2},
        {"backbone": "sam2_hiera_tiny"},
    ],
    ids=str,
)
def test_every_trainable_parameter_receives_a_gradient_in_one_step(make_network, options):
    """DistributedDataParallel stops where one does not."""
    network = make_network(**{"image_size": 32, "num_slices": 3, **options})
    channels = options.get("input_channels", 1)
    regions = options.get("regions", False)
    target = torch.randint(0, 2, (1, 3, 3, 16, 16)) if regions else torch.randint(0, 3, (1, 1, 3, 16, 16))
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], None, regions=regions, num_regions=3))
    loss.terms(network(torch.randn(1, channels, 3, 16, 16)), target).total.backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert any(n.startswith("encoder.trunk") and p.grad is not None for n, p in network.named_parameters()) == (
        not options.get("freeze_trunk", True)
    )


def test_training_goes_on_after_prediction_under_inference_mode(make_network, patches):
    network = make_network(freeze_trunk=False)
    network.eval()
    with torch.inference_mode():
        network(patches)
    network.train()(patches).masks.sum().backward()


def test_predictions_need_no_particular_number_of_slices(make_network, patches):
    network = make_network().eval()
    with torch.no_grad():
        assert network(patches[:, :, :1]).shape[2] == 1
        # slices do not look ahead: the first three of six are those of a stack of three, but for the age of
        # object pointers, which SAM 2 states relative to the length of the stack; so compare the first only
        torch.testing.assert_close(network(patches)[:, :, 0], network(patches[:, :, :1])[:, :, 0])


def test_auxiliary_branches_cost_nothing_at_inference(make_network, patches):
    network = make_network().eval()
    calls = []
    network.boundary.register_forward_hook(lambda *_: calls.append("boundary"))
    network.srpp.register_forward_hook(lambda *_: calls.append("srpp"))
    network(patches)
    assert calls == []
    network.train()(patches)
    assert calls == ["boundary", "srpp"]


def reached(network, loss: torch.Tensor) -> set[str]:
    """Parameters on which a loss has a gradient other than zero."""
    network.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize(
    "branch, parts",
    [
        ("parallel", {"encoder.neck"}),
        ("shared", {"encoder.neck", "segmentation.memory_attention"}),
        ("fused", {"encoder.neck", "boundary"}),
    ],
)
def test_boundary_loss_helps_to_train_what_its_reading_says(make_network, branch, parts):
    """Parameters that both the boundary loss and the masks depend on."""
    network = make_network(boundary_branch=branch, image_size=32, num_slices=3)
    output = network(torch.randn(1, 1, 3, 16, 16))
    both = reached(network, output.boundaries.square().sum()) & reached(network, output.masks.square().sum())
    assert {next(part for part in parts if name.startswith(part + ".")) for name in both} == parts


@torch.no_grad()
def test_fused_features_take_part_in_every_kind_of_prediction(make_network, patches):
    network = make_network(boundary_branch="fused").eval()
    plain = network(patches)
    with torch.inference_mode():
        torch.testing.assert_close(network(patches), plain, atol=1e-5, rtol=1e-5)  # by way of the slice cache
    other = copy.deepcopy(network)
    for parameter in other.boundary.fusion.parameters():
        parameter.mul_(1.5)
    assert (other(patches) - plain).abs().max() > 1e-3


@torch.no_grad()
def test_shared_memory_attention_is_one(make_network):
    network = make_network(boundary_branch="shared")
    assert network.boundary.memory_attention is network.segmentation.memory_attention
    assert copy.deepcopy(network).boundary.memory_attention is not network.segmentation.memory_attention
    other = make_network(boundary_branch="shared")
    other.load_state_dict(network.state_dict())  # as nnU-Net loads checkpoints


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_memories": 0}, "num_memories is 0"),
        ({"num_memories": 8}, "num_memories is 8"),
        ({"num_slices": 1}, "num_slices is 1"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"image_size": 100}, "image_size is 100"),
        ({"boundary_branch": "serial"}, "boundary_branch is 'serial'.*parallel, shared, fused"),
        ({"precision": "int8"}, "precision is 'int8'"),
    ],
)
def test_values_that_cannot_work_are_named(make_network, options, message):
    with pytest.raises(ValueError, match=message):
        make_network(**options)
