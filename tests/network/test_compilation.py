"""The compiled network against the eager one: outputs, gradients, and how many graphs there are."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.backends.distributed import DDPOptimizer
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_sam2_3dmed.network import compilation, mask_propagation
from nnunetv2_sam2_3dmed.network.compilation import Compiled, compiled_function, in_usual_order
from nnunetv2_sam2_3dmed.network.mask_propagation import _attend
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed, TrainingOutput
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
OPTIONS = {
    "default": {},
    "shared": {"boundary_branch": "shared"},
    "fused": {"boundary_branch": "fused"},
    "self-sorting": {"self_sorting_memory": True},
    "bidirectional": {"bidirectional": True},
    "checkpointing": {"activation_checkpointing": True},
    "refined": {"refine_masks": 2},
}


@pytest.fixture(autouse=True)
def one_thread():
    """Compiling is one thread's work, and the network is tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def backend(monkeypatch):
    """Graphs are made, and run as they are; which code is generated from them is torch's business."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")


@pytest.fixture
def backend_with_backward(monkeypatch):
    """As ``backend``, with a graph of the backward pass, too, and all operations taken apart as for inductor."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")


@pytest.fixture
def ways(monkeypatch) -> set[Compiled]:
    """The ways in which functions were asked to be computed."""
    seen: set[Compiled] = set()

    def spy(function, how):
        seen.add(how)
        return compiled_function(function, how)

    monkeypatch.setattr(mask_propagation, "compiled_function", spy)
    return seen


@pytest.fixture(autouse=True)
def compiling(monkeypatch):
    """No test's failure is another's."""
    monkeypatch.setattr(compilation._Compiler, "given_up", False)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def loss_of(output: TrainingOutput) -> torch.Tensor:
    return sum(part.square().mean() for part in output if part is not None)


def gradients(network: SAM2_3dMed, run, patches: torch.Tensor) -> tuple[TrainingOutput, dict[str, torch.Tensor]]:
    network.zero_grad(set_to_none=True)
    output = run(patches)
    loss_of(output).backward()
    return output, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def assert_gradients_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_computes_what_the_eager_network_does(make_network, backend, ways, options):
    """Masks, boundaries, offsets and all gradients in training, logits in validation and in prediction."""
    network = make_network(dropout=0.0, **options)
    compiled = torch.compile(network)
    # two stacks go through memory, and both directions are two stacks: most options share graphs here
    patches = torch.randn(1 if network.segmentation.bidirectional else 2, 1, 3, 24, 20)
    before = graphs()
    output, expected = gradients(network, network, patches)
    network.eval()
    with torch.no_grad():
        logits = network(patches)
    assert ways == {Compiled.EAGER} and graphs() == before  # for the network itself nothing is compiled
    ways.clear()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(compiled(patches), logits, rtol=1e-5, atol=1e-5)
    network.train()
    compiled_output, found = gradients(network, compiled, patches)
    assert ways == {Compiled.COMPILED} and graphs() > 0
    for ours, theirs in zip(compiled_output, output, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert_gradients_equal(found, expected)


def test_where_compiling_fails_the_network_goes_on_without(make_network, monkeypatch):
    """As on a machine without the compiler that torch needs: in prediction and in training, warned of once."""

    def broken(graph, example_inputs):
        raise RuntimeError("no C++ compiler here")

    monkeypatch.setattr(compilation, "BACKEND", broken)
    network = make_network(dropout=0.0)
    compiled, patches = torch.compile(network), torch.randn(1, 1, 3, 24, 20)
    with torch.inference_mode():
        expected = network.eval()(patches)
        with pytest.warns(UserWarning, match="(?s)goes on without it, more slowly.*no C\\+\\+ compiler here") as warned:
            torch.testing.assert_close(compiled(patches), expected)
    assert len([w for w in warned if "torch.compile failed" in str(w.message)]) == 1
    network.train()
    _, plain = gradients(network, network, patches)
    _, found = gradients(network, compiled, patches)
    assert_gradients_equal(found, plain)


def test_checkpointing_repeats_dropout_in_compiled_code(make_network, backend_with_backward):
    """Draw the same dropout masks in the second computation in backward as in the first."""
    patches, found = torch.randn(1, 1, 2, 24, 20), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = make_network(dropout=0.5, activation_checkpointing=checkpointing)
        torch.manual_seed(1)
        found.append(gradients(network, torch.compile(network), patches)[1])
    assert_gradients_equal(found[1], found[0])


# ---------------------------------------------------------------- number of graphs


def test_all_slices_share_graphs_whatever_the_depth_and_batch(make_network, backend, nothing_compiled):
    """Memory attention has one graph for one memory and one for more.

    Both branches share them; what follows memory attention has one graph for each branch, since the boundary's fuses.
    Without gradients one branch is left: a graph less, for validation and for prediction, whose features come from the
    cache of slices, together. From the second batch size on, graphs are made for any, but for a batch of one.
    """
    network = make_network(num_slices=12)
    compiled = torch.compile(network)
    numbers = []

    def run(batch: int, depth: int, mode=None) -> None:
        before = graphs()
        network.train(mode is None)
        if mode is None:
            loss_of(compiled(torch.randn(batch, 1, depth, 24, 20))).backward()
        else:
            with mode():
                compiled(torch.randn(batch, 1, depth, 24, 20))
        numbers.append(graphs() - before)

    run(1, 4)
    run(1, 9)
    run(1, 4, torch.no_grad)
    run(1, 9, torch.inference_mode)
    run(2, 4, torch.inference_mode)
    run(3, 5, torch.inference_mode)
    run(1, 5, torch.inference_mode)
    assert numbers == [4, 0, 3, 0, 3, 0, 0]


def test_the_usual_order_is_that_of_a_fresh_tensor_and_copies_none():
    fresh = torch.randn(3, 1, 4, 5)
    odd = fresh.as_strided(fresh.shape, (20, 999, 5, 1))
    assert in_usual_order(odd).stride() == fresh.stride() == (20, 20, 5, 1)
    assert in_usual_order(odd).data_ptr() == fresh.data_ptr()
    turned = fresh.transpose(0, 3)
    assert in_usual_order(turned).stride() == (12, 12, 3, 1)
    assert torch.equal(in_usual_order(turned), turned)


# ---------------------------------------------------------------- several processes, and code


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_training_has_the_same_graphs(
    make_network, backend_with_backward, one_process, nothing_compiled, monkeypatch
):
    """Left to itself, torch splits them where a bucket of gradients is full."""
    monkeypatch.setattr(DDPOptimizer, "compile_fn", lambda *_: pytest.fail("a graph is split"))
    network = make_network(dropout=0.0)
    patches = torch.randn(1, 1, 3, 24, 20)
    _, expected = gradients(network, network, patches)
    compiled = torch.compile(network)
    wrapped = DistributedDataParallel(compiled, bucket_cap_mb=1)
    wrapped.broadcast_buffers = False  # as the trainer does
    _, found = gradients(network, wrapped, patches)
    assert_gradients_equal(found, expected)
    assert graphs() == 4
    _, found = gradients(network, compiled, patches)
    assert_gradients_equal(found, expected)
    assert graphs() == 4


def test_torch_generates_code_of_few_kernels_for_memory_attention(nothing_compiled, monkeypatch):
    """Compiled part of the smallest size, without gradients, by torch's own backend.

    A layer has two attentions with four projections each, and a perceptron of two: ten products, and two fused kernels
    of attention. The rest, rotation, norms and sums, becomes a third of the launches at most.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    launches = import_module("launches")
    attention = build_sam2_base("sam2.1_hiera_tiny", 64, dropout=0.0, with_trunk=False).memory_attention
    embedding, position = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 4, 4)
    tokens = tuple(torch.randn(n, 1, 64) for n in (32, 8))
    positions = tuple(torch.randn(n, 1, 64) for n in (32, 8))
    with torch.no_grad():
        with launches.Launches() as eager:
            expected = _attend(attention, embedding, position, tokens, positions)
        attend = compiled_function(_attend, Compiled.COMPILED)
        with launches.GraphCalls() as calls:
            found = attend(attention, embedding, position, tokens, positions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (graph,) = calls.facts()["graphs"]
    products = 4 * (2 * 4 + 2) + 4 * 2
    assert graph["calls"] == 1 and graph["other kernels"] == products
    assert graph["generated kernels"] <= (eager.number - products) / 3
