"""Costs of the network in counts, which do not depend on the machine or its load."""

import json
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from nnunetv2_sam2_3dmed.network import checkpointing
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.report.operations import count_operations
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

PARTS = Path(__file__).parents[2] / "benchmarks" / "results" / "part_costs.json"


def segmentation_only(image_size: int = 512, num_classes: int = 2) -> SAM2_3dMed:
    return SAM2_3dMed(1, num_classes, image_size=image_size, srpp=False, boundary=False, precision="float32").eval()


# ---------------------------------------------------------------- operations


@pytest.fixture(scope="module")
def at_512():
    network = segmentation_only()
    return {depth: count_operations(network, (1, 1, depth, 512, 512)) for depth in (8, 9, 13)}


def test_a_slice_costs_what_the_parts_of_sam2_cost(at_512):
    """The table in the docs; the ninth slice attends to eight object pointers, in the table to seven."""
    parts = json.loads(PARTS.read_text())["sam2.1_hiera_tiny"]["512"]
    assert at_512[8].encoding == 8 * parts.pop("trunk")
    one_more = at_512[9].patch - at_512[8].patch - at_512[8].encoding / 8
    assert one_more == pytest.approx(sum(parts.values()), rel=1e-3)


def test_cost_grows_linearly_with_slices(at_512):
    """From the eighth slice on, each costs the same but for one more object pointer, up to sixteen of them."""
    each_of_four = (at_512[13].patch - at_512[9].patch) / 4
    assert each_of_four == pytest.approx(at_512[9].patch - at_512[8].patch, rel=0.01)


def test_104_classes_cost_at_most_half_more_than_one():
    one, many = (count_operations(segmentation_only(256, 1 + k), (1, 1, 6, 256, 256)).patch for k in (1, 104))
    assert one < many < 1.5 * one


# ---------------------------------------------------------------- launches and waiting


class Launches(TorchDispatchMode):
    """Counts operations that compute something; on a GPU each is at least one kernel."""

    VIEWS = ("view", "permute", "transpose", "expand", "unsqueeze", "slice", "select", "t", "split", "squeeze")

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        self.number += name.strip("_").split("_")[-1] not in self.VIEWS and name not in ("detach", "alias")
        return func(*args, **(kwargs or {}))


def launches(network: SAM2_3dMed, windows: int, depth: int) -> int:
    with torch.no_grad(), Launches() as counted:
        network.segmentation(network.encoder(torch.randn(windows, 1, depth, 24, 20)))
    return counted.number


def test_a_slice_takes_few_launches_however_many_windows_there_are(make_network):
    """A guard: memory attention, decoder and memory encoder take this many; more, and small images get slow."""
    network = make_network(srpp=False, boundary=False, num_slices=12).eval()
    per_slice = launches(network, 1, 10) - launches(network, 1, 9)
    assert per_slice <= MOST_LAUNCHES_PER_SLICE
    # eight times the windows: only some views become copies
    assert launches(network, 8, 9) < 1.1 * launches(network, 1, 9)


def test_launches_hardly_grow_with_classes():
    few, many = (launches(segmentation_only(64, 1 + k), 1, 9) for k in (2, 104))
    assert many <= few + 9  # a slice


MOST_LAUNCHES_PER_SLICE = 370


class NothingCopiedToTheDevice(TorchFunctionMode):
    """Fails where a tensor is made from Python numbers: on a GPU that is a copy that the processor waits for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor, torch.from_numpy):
            raise AssertionError(f"{func.__name__}{args} in a training step")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("self_sorting", [False, True])
def test_a_training_step_waits_for_no_number_from_the_device(make_network, patches, self_sorting):
    """With fake tensors there are no numbers: whoever asks for one (item, nonzero, a boolean index) fails."""
    network = make_network(self_sorting_memory=self_sorting)
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], ignore_label=3), DiceBCELoss(batch_dice=True))
    target = torch.randint(-1, 4, (2, 1, 6, 24, 20))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    state = {name: mode.from_tensor(t) for name, t in [*network.named_parameters(), *network.named_buffers()]}
    with mode, NothingCopiedToTheDevice():
        output = functional_call(network, state, (mode.from_tensor(patches),))
        loss.terms(output, mode.from_tensor(target)).total.backward()


# ---------------------------------------------------------------- memory for backward


def test_a_checkpointed_slice_repeats_its_dropout_on_any_device(make_network, patches, monkeypatch):
    """torch repeats the random numbers of the devices on which it sees arguments."""
    seen = []

    def spy(function, *arguments, **options):
        seen.append(any(isinstance(argument, torch.Tensor) for argument in arguments))
        return checkpoint(function, *arguments, **options)

    monkeypatch.setattr(checkpointing, "checkpoint", spy)
    make_network(activation_checkpointing=True)(patches)
    assert len(seen) == 2 * patches.shape[2] and all(seen)
    seen.clear()
    with torch.no_grad():
        make_network(activation_checkpointing=True).eval()(patches)
    assert not seen


def kept_for_backward(network: SAM2_3dMed, patches: torch.Tensor) -> int:
    """Bytes of everything that a forward pass keeps, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(patches)
    del output
    return sum(kept.values())


def test_a_frozen_trunk_keeps_nothing_for_backward(make_network, patches):
    options = {"srpp": False, "boundary": False}
    frozen = kept_for_backward(make_network(**options), patches)
    trained = kept_for_backward(make_network(**options, freeze_trunk=False), patches)
    network = make_network(**options)
    pyramid = network.encoder.trunk(network.encoder.adapter(patches))
    assert not any(level.requires_grad for level in pyramid)
    assert frozen < trained


def test_checkpointed_activations_are_not_kept_and_give_the_same_gradients(make_network, patches):
    torch.manual_seed(1)
    network = make_network()
    torch.manual_seed(1)
    checkpointed = make_network(activation_checkpointing=True)
    gradients = []
    for each in (network, checkpointed):
        torch.manual_seed(2)  # dropout
        output = each(patches)
        (output.masks.square().mean() + output.boundaries.square().mean()).backward()
        gradients.append({n: p.grad for n, p in each.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert kept_for_backward(checkpointed, patches) < 0.3 * kept_for_backward(network, patches)
