"""The network that is trained: SAM 2 by its parameters, and what the interactive engine gives with the same weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.clicks import DRAWS, random_clicks
from nnunetv2_sam2_3dmed.network.promptable_sam2 import PromptableSAM2, build_promptable_sam2
from nnunetv2_sam2_3dmed.network.resizing import logits_at
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Click, random_click
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks, objects_to_train, objects_to_validate
from tests.interactive.fake_gpu import GPU, NoWaiting, fake_copy
from tests.interactive.reference import make_lively, phantom
from tests.prompt_training.conftest import SIZE

TINY = "sam2.1_hiera_tiny"


@pytest.fixture
def network() -> PromptableSAM2:
    return build_promptable_sam2(TINY, SIZE, dropout=0.0, fitted_windows=True, precision="float32").train()


def test_its_tensors_are_sam2s(network):
    own = {name: value.shape for name, value in network.state_dict().items()}
    assert own == {name: value.shape for name, value in build_sam2_base(TINY, SIZE).state_dict().items()}


def test_the_prompts_together_train_all_parameters(network, stacks):
    rng = np.random.default_rng(0)
    last = network.sam_mask_decoder.pred_obj_score_head.layers[-1]
    # memories of absent objects have embeddings of their own, those of present ones the pointers
    for presence in (-20.0, 20.0):
        torch.nn.init.constant_(last.bias, presence)
        for mix in (PromptMix(1.0, 0.0, corrected=0.0), PromptMix(0.0, 1.0, corrected=1.0), PromptMix(0.0, 0.0)):
            objects = objects_to_train(stacks, SIZE, mix, rng)
            PromptLoss()(network(objects.prompts), objects).total.backward()
    trained = [(name, p.grad) for name, p in network.named_parameters() if p.requires_grad]
    assert not [name for name, gradient in trained if gradient is None]
    # of three candidates the best learns, and a negative click is only drawn where too much was found
    luck = ("sam_mask_decoder.output_hypernetworks_mlps.", "sam_prompt_encoder.point_embeddings.0.")
    assert not [name for name, gradient in trained if not gradient.any() and not name.startswith(luck)]
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["no_mem_pos_enc"]


def test_masks_learn_also_where_the_object_is_taken_to_be_absent(network, stacks):
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias -= 20
    objects = objects_to_train(stacks, SIZE, PromptMix(1.0, 0.0, corrected=0.0), np.random.default_rng(0))
    answers = network(objects.prompts)
    assert all((answer.presence < 0).all() and (answer.logits == -1024).all() for answer in answers)
    terms = PromptLoss()(answers, objects)
    assert terms.pixels < 5
    (gradient,) = torch.autograd.grad(terms.pixels, network.sam_mask_decoder.mask_tokens.weight)
    assert gradient.any()


def test_every_real_slice_is_answered_once_after_the_corrections(network, stacks):
    objects = objects_to_train(stacks, SIZE, PromptMix(1.0, 0.0, 1.0, 1), np.random.default_rng(0))
    assert objects.prompts.corrections == 1
    answers = network(objects.prompts)
    final = [
        (number, index)
        for answer in answers[1:]  # the first one was corrected
        for number, index in zip(answer.objects.tolist(), answer.slices.tolist())
    ]
    assert sorted(final) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]  # the last one is padding
    assert answers[0].candidates.shape[1] == answers[1].candidates.shape[1] == 1  # a box is not ambiguous
    assert answers[2].candidates.shape[1] == 3  # tracking is


def test_a_mask_is_no_answer_and_one_click_has_three(network, stacks):
    rng = np.random.default_rng(0)
    mask = network(objects_to_train(stacks, SIZE, PromptMix(0.0, 0.0), rng).prompts)
    click = network(objects_to_train(stacks, SIZE, PromptMix(0.0, 1.0, corrected=0.0), rng).prompts)
    assert sum(len(answer.objects) for answer in mask) == 7 - 2
    assert sum(len(answer.objects) for answer in click) == 7
    assert click[0].candidates.shape == (2, 3, SIZE, SIZE)


def test_without_several_candidates_there_is_one_of_everything(stacks):
    network = build_promptable_sam2(TINY, SIZE, dropout=0.0, precision="float32", several_candidates=False).train()
    click = objects_to_train(stacks, SIZE, PromptMix(0.0, 1.0, corrected=0.0), np.random.default_rng(0)).prompts
    assert {answer.candidates.shape[1] for answer in network(click)} == {1}


@pytest.mark.parametrize("steady", [False, True])
def test_steady_features_leave_constants_to_the_heads(stacks, steady):
    torch.manual_seed(0)
    network = build_promptable_sam2(TINY, SIZE, dropout=0.0, precision="float32", steady_features=steady).train()
    objects = objects_to_train(stacks, SIZE, PromptMix(1.0, 0.0, 0.0), np.random.default_rng(0))
    PromptLoss()(network(objects.prompts), objects).total.backward()
    # a bias behind all layers of a level moves all places alike; the embedding is added to the same features
    bias = network.image_encoder.neck.convs[1].conv.bias.grad
    assert (bias.abs().max() < 1e-6) == steady
    assert network.no_mem_embed.grad.any() and network.image_encoder.trunk.pos_embed.grad.any()


def test_the_engine_gives_the_same_logits(lively_network, monkeypatch):
    """As many slices as a volume needs for SAM 2 to scale the distances of pointers as it does for any larger one."""
    # Both keep memories in bfloat16, which makes a hundredfold of the order in which float32 is summed, differently on
    # each machine. Kept as they are, what is left is float32's own rounding.
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    session = InteractiveSession(lively_network, "cpu", "float32")
    session.set_image(volume_from_array(phantom((16, 40, 48)), (1, 1, 1)))
    grey = np.stack([session.slice_as_seen(0, index) for index in range(16)])
    masks = torch.zeros(1, 1, 16, 40, 48, dtype=torch.bool)
    masks[0, 0, 3:10, 10:25, 12:30] = True  # its middle slice is 6
    every = torch.ones(1, 16, 40, 48, dtype=torch.bool)
    stacks = Stacks(torch.tensor(grey)[None] / 255, masks, every, torch.ones(1, 16, dtype=torch.bool))
    objects = objects_to_validate(stacks, SIZE, np.random.default_rng(0))
    with torch.no_grad():
        answers = lively_network(objects.prompts)
    session.add_box((6, 10, 12), (6, 25, 30))
    session.propagate()
    seen = {
        int(index): logits[0].numpy()
        for answer in answers
        for index, logits in zip(answer.slices, logits_at(answer.logits, (40, 48)))
    }
    assert sorted(seen) == list(range(16))
    for index, logits in seen.items():
        assert np.abs(session.predict_slice(1, 0, index).logits - logits).max() < 1e-4
    assert 0.02 < np.mean([logits > 0 for logits in seen.values()]) < 0.98
    assert max(np.abs(seen[0] - seen[15]).max(), np.abs(seen[3] - seen[9]).max()) > 0.1


def test_a_patch_without_prompts_is_refused_with_what_to_do(network):
    with pytest.raises(UserError, match="nnUNetv2_predict has no prompts: use `sam2_3dmed segment"):
        network(torch.zeros(1, 1, 8, 32, 32))


@pytest.mark.parametrize("presence", [-20.0, 20.0])
def test_training_remembers_what_use_remembers(stacks, presence):
    """The heads are changed in training for the sake of gradients: masks that count and memories stay SAM 2's."""
    torch.manual_seed(1)
    network = build_promptable_sam2(TINY, SIZE, dropout=0.0, precision="float32")
    make_lively(network)
    torch.nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, presence)
    objects = objects_to_validate(stacks, SIZE, np.random.default_rng(0))
    with torch.no_grad():
        used, trained = network.eval()(objects.prompts), network.train()(objects.prompts)
    assert len(used) == len(trained) > 1
    for one, other in zip(used, trained):
        assert (one.presence > 0).all() == (presence > 0)
        torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.presence, other.presence, atol=1e-4, rtol=1e-4)


def test_clicks_correct_nothing_that_is_ignored(network, stacks):
    """Draw no negative click for a false positive that covers only unknown voxels."""
    counted = stacks.masks[:, 0] | stacks.masks[:, 1]  # known is the object alone
    with torch.no_grad():  # masks that cover the whole slice
        network.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1].weight.zero_()
        network.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1].bias.fill_(10.0)
    objects = objects_to_train(
        stacks._replace(counted=counted), SIZE, PromptMix(1.0, 0.0, 1.0, 1), np.random.default_rng(0)
    )
    seen = []
    network._corrected, correct = lambda *given: seen.append(correct(*given)) or seen[-1], network._corrected
    network(objects.prompts)
    ((_, labels),) = seen
    assert labels.tolist() == [[2, 3, 1], [2, 3, 1]]


def test_clicks_drawn_on_the_device_are_those_drawn_on_the_host():
    """The remainder of a draw, by the number of errors, is the place that a host's generator would have drawn."""
    rng = np.random.default_rng(0)
    truth = rng.random((40, 7, 5)) < 0.5
    truth[:, 3, 2] = True
    found = truth ^ (rng.random((40, 7, 5)) < rng.random((40, 1, 1)))
    found[:10] = truth[:10]  # no errors: inside the object
    draws = rng.integers(DRAWS, size=40)
    draws[:2] = draws[20:22] = 0, DRAWS - 1
    expected = [
        random_click(t, f, SimpleNamespace(integers=lambda count, d=draw: int(d) % count))
        for t, f, draw in zip(truth, found, draws)
    ]
    clicks = random_clicks(torch.tensor(truth), torch.tensor(found), torch.tensor(draws))
    assert [Click(*numbers) for numbers in zip(*(numbers.tolist() for numbers in clicks))] == expected
    assert {click.label for click in expected[10:]} == {0, 1} and {click.label for click in expected[:10]} == {1}


def test_each_error_is_clicked_on_equally_often():
    truth, found = torch.zeros(1, 4, 5, dtype=torch.bool), torch.zeros(1, 4, 5, dtype=torch.bool)
    truth[0, 1, :3], found[0, 3, 4] = True, True
    draws = torch.tensor(np.random.default_rng(0).integers(DRAWS, size=4000))
    rows, columns, labels = random_clicks(truth.expand(4000, -1, -1), found.expand(4000, -1, -1), draws)
    places, counts = np.unique(torch.stack([rows, columns, labels], dim=1).numpy(), axis=0, return_counts=True)
    assert places.tolist() == [[1, 0, 1], [1, 1, 1], [1, 2, 1], [3, 4, 0]]
    assert (abs(counts - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)).all()  # four standard deviations


@pytest.mark.parametrize("device", [GPU, torch.device("cpu")], ids=["GPU", "CPU"])
@pytest.mark.parametrize(
    "mix",
    [PromptMix(1.0, 0.0, 0.0), PromptMix(0.0, 1.0, 1.0), PromptMix(0.0, 0.0), PromptMix(1.0, 0.0, 0.0, later=1.0)],
    ids=["box", "corrected click", "mask", "corrected later"],
)
def test_a_training_step_waits_for_no_number_from_the_device(network, stacks, mix, device, monkeypatch):
    """With fake tensors there are no numbers: whoever asks for one (item, nonzero, a boolean index) fails."""
    objects = objects_to_train(stacks, SIZE, mix, np.random.default_rng(0))
    prompts = objects.prompts
    assert (prompts.corrections > 0) == (mix.click == 1)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    network = fake_copy(network, mode, device)
    with mode:
        there = {
            name: torch.empty_like(value, device=device)
            for name, value in prompts._asdict().items()
            if isinstance(value, torch.Tensor)
        }
        objects = objects._replace(prompts=prompts._replace(**there))
        with NoWaiting() as watched:
            answers = network(objects.prompts)
            total = PromptLoss()(answers, objects).total
            if device.type == "cpu":  # backward on a GPU needs the GPU
                total.backward()
    assert total.device == device
    if device == GPU:
        # indices of the prompted slices and of the others, and draws of each correction; SAM 2 copies some itself
        assert len(pinned) == 2 + prompts.corrections + (prompts.later > 0) <= watched.copies


@pytest.mark.parametrize(
    "wait",
    [lambda t: t.cpu(), lambda t: t[t > 0], lambda t: t.tolist(), lambda t: torch.tensor([1, 2], device=GPU)],
    ids=["copy to the host", "boolean index", "numbers", "numbers to the device"],
)
def test_what_waits_for_the_device_is_noticed(wait):
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises(Exception, match="waited for|aten.nonzero|aten._local_scalar_dense"),
    ):
        tensor = torch.zeros(3, device=GPU)
        with NoWaiting():
            wait(tensor)


def test_checkpointed_activations_give_the_same_losses_and_gradients(stacks):
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = build_promptable_sam2(
            TINY, SIZE, dropout=0.1, precision="float32", activation_checkpointing=checkpointing
        ).train()
        objects = objects_to_train(stacks, SIZE, PromptMix(1.0, 0.0, corrected=0.0), np.random.default_rng(0))
        torch.manual_seed(1)  # dropout
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answers = network(objects.prompts)
        total = PromptLoss()(answers, objects).total
        total.backward()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        results.append((total.detach(), gradients, sum(kept.values())))
    (plain, expected, all_kept), (total, gradients, less) = results
    torch.testing.assert_close(total, plain)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-6)
    assert less < 0.6 * all_kept
