"""Corrections of slices that the propagation has reached."""

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network import promptable_sam2
from nnunetv2_sam2_3dmed.network.prompt_step import segment_slice
from nnunetv2_sam2_3dmed.network.promptable_sam2 import PromptableSAM2, build_promptable_sam2
from nnunetv2_sam2_3dmed.network.resizing import logits_at
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks, objects_to_train, objects_to_validate
from tests.interactive.reference import make_lively, phantom
from tests.prompt_training.conftest import SIZE

BOX = PromptMix(1.0, 0.0, corrected=0.0)


def make_network(**options) -> PromptableSAM2:
    torch.manual_seed(0)
    network = build_promptable_sam2("sam2.1_hiera_tiny", SIZE, dropout=0.0, precision="float32", **options)
    make_lively(network)
    return network.train()


@pytest.fixture
def stacks() -> Stacks:
    """A stack of six slices; the object is on the first three."""
    masks = torch.zeros(1, 1, 6, 24, 20, dtype=torch.bool)
    masks[0, 0, :3, 5:15, 4:12] = True
    every = torch.ones(1, 6, 24, 20, dtype=torch.bool)
    torch.manual_seed(0)
    return Stacks(torch.rand(1, 6, 24, 20), masks, every, torch.ones(1, 6, dtype=torch.bool))


def prompted(stacks: Stacks, index: int, later: int, seed: int = 0):
    """A box on one slice, and so many clicks on the corrected ones."""
    objects = objects_to_train(stacks, SIZE, BOX, np.random.default_rng(0))
    prompts = objects.prompts
    return objects._replace(
        prompts=prompts._replace(slices=np.array([index]), later=later, rng=np.random.default_rng(seed))
    )


def step_of(seed: int, longest: int) -> int:
    return int(np.random.default_rng(seed).integers(1, longest + 1))


@pytest.mark.parametrize("seed", range(3))
def test_one_slice_is_answered_again_after_every_click(stacks, seed):
    network = make_network()
    seen = []
    correcting = network._correcting
    network._correcting = lambda *given: seen.append(correcting(*given)) or seen[-1]
    answers = network(prompted(stacks, 0, 3, seed).prompts)
    there = [int(answer.slices[0]) for answer in answers]
    corrected = step_of(seed, 5)
    assert sorted(there) == sorted([*range(6), corrected, corrected, corrected])
    assert there[there.index(corrected) :][:4] == [corrected] * 4
    # the first click of a slice is ambiguous, as in SAM 2, more than one are not
    assert [a.candidates.shape[1] for a in answers if int(a.slices[0]) == corrected] == [3, 3, 1, 1]
    assert len(seen) == 3


def test_clicks_are_on_errors_of_the_mask_before(stacks):
    network = make_network()
    seen = []
    correcting = network._correcting
    network._correcting = lambda *given: seen.append((given[3], *correcting(*given))) or seen[-1][1:]
    network(prompted(stacks, 0, 3).prompts)
    gt = stacks.masks[0, 0, step_of(0, 5)]
    for logits, points, labels in seen:
        found = logits_at(logits, (24, 20))[0, 0] > 0
        x, y = (points[0, 0] * torch.tensor([20, 24]) / SIZE).round().long().tolist()
        assert gt[y, x] != found[y, x] and labels.tolist() == [[int(gt[y, x])]]


def test_both_directions_are_corrected_at_one_distance(stacks):
    seed = next(seed for seed in range(99) if step_of(seed, 3) <= 2)  # at 3, slice 2 - 3 does not exist
    answers = make_network()(prompted(stacks, 2, 1, seed=seed).prompts)
    step = step_of(seed, 3)
    counts = np.bincount(np.concatenate([answer.slices.numpy() for answer in answers]), minlength=6)
    expected = np.ones(6, dtype=int)
    for index in (2 - step, 2 + step):
        if 0 <= index < 6:
            expected[index] += 1
    assert counts.tolist() == expected.tolist() and counts.sum() == 8


def test_videos_are_corrected_forward_only(stacks):
    seed = next(seed for seed in range(99) if step_of(seed, 3) == 2)
    prompts = prompted(stacks, 2, 1, seed=seed).prompts._replace(videos=frozenset({0}))
    answers = make_network()(prompts)
    counts = np.bincount(np.concatenate([answer.slices.numpy() for answer in answers]), minlength=6)
    assert counts.tolist() == [0, 0, 1, 1, 2, 1]


def test_nobody_clicks_where_nothing_is_wrong(stacks):
    network = make_network()
    (turn,) = network._turns(prompted(stacks, 0, 0).prompts, [[(0, 4), (0, 1)]])
    prompts = prompted(stacks, 0, 0).prompts
    empty = torch.full((2, 1, SIZE // 4, SIZE // 4), -10.0)
    points, labels = network._correcting(prompts, turn, torch.tensor([7, 7]), empty)
    assert labels.tolist() == [[-1], [1]]  # slice 4 is empty and was found so; on slice 1 the object was missed
    x, y = (points[1, 0] * torch.tensor([20, 24]) / SIZE).round().long().tolist()
    assert stacks.masks[0, 0, 1, y, x]


def test_later_slices_look_at_the_corrected_one(stacks):
    """With other clicks the slices behind the corrected one change, and those before it do not."""
    network = make_network().eval()
    seed = next(s for s in range(200) if step_of(s, 5) == 2)
    answers = []
    for draw in (1, 150):
        correcting = network._correcting
        network._correcting = lambda p, turn, draws, logits, draw=draw, own=correcting: own(
            p, turn, torch.full_like(draws, draw), logits
        )
        with torch.no_grad():
            answers.append({int(a.slices[0]): a.logits for a in network(prompted(stacks, 0, 1, seed).prompts)})
        network._correcting = correcting
    for index, same in enumerate([True, True, False, False, False, False]):
        assert torch.equal(answers[0][index], answers[1][index]) == same


def test_the_corrected_slice_is_then_remembered_like_the_prompted_one(stacks, monkeypatch):
    seen = []

    def spy(network, features, index, slices, conditioning, others, **options):
        seen.append((index, sorted(conditioning), sorted(others)))
        return segment_slice(network, features, index, slices, conditioning, others, **options)

    monkeypatch.setattr(promptable_sam2, "segment_slice", spy)
    make_network()(prompted(stacks, 0, 1, next(s for s in range(200) if step_of(s, 5) == 2)).prompts)
    assert seen == [
        (0, [], []),
        (1, [0], []),
        (2, [0], [1]),
        (2, [0], [1]),  # the click
        (3, [0, 2], [1]),
        (4, [0, 2], [1, 3]),
        (5, [0, 2], [1, 3, 4]),
    ]


def test_a_session_answers_the_same_click_alike(monkeypatch):
    """A box, a propagation, and a click on a slice that it has reached."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # see test_promptable_sam2
    network = make_network().eval()
    session = InteractiveSession(network, "cpu", "float32")
    session.set_image(volume_from_array(phantom((16, 40, 48)), (1, 1, 1)))
    grey = np.stack([session.slice_as_seen(0, index) for index in range(16)])
    masks = torch.zeros(1, 1, 16, 40, 48, dtype=torch.bool)
    masks[0, 0, 3:10, 10:25, 12:30] = True  # its middle slice is 6
    every = torch.ones(1, 16, 40, 48, dtype=torch.bool)
    objects = objects_to_validate(
        Stacks(torch.tensor(grey)[None] / 255, masks, every, torch.ones(1, 16, dtype=torch.bool)),
        SIZE,
        np.random.default_rng(0),
    )
    clicked = []
    correcting = network._correcting
    network._correcting = lambda *given: clicked.append(correcting(*given)) or clicked[-1]
    seed = next(s for s in range(200) if step_of(s, 9) == 3)
    with torch.no_grad():
        answers = network(objects.prompts._replace(later=1, rng=np.random.default_rng(seed)))
    (points, labels), index = clicked[0], 9  # three slices from the box; the first track is the longest, upwards
    x, y = (points[0, 0] * torch.tensor([48, 40]) / SIZE).tolist()
    session.add_box((6, 10, 12), (6, 25, 30))
    session.propagate()
    before = session.predict_slice(1, 0, index).logits
    session.add_points([(index, y, x)], int(labels[0, 0]))
    after = session.predict_slice(1, 0, index).logits
    given = [
        logits_at(answer.logits[answer.slices == index], (40, 48))[0, 0].numpy()
        for answer in answers
        if (answer.slices == index).any()
    ]
    assert len(given) == 2
    for seen, expected in zip(given, (before, after), strict=True):
        assert np.abs(seen - expected).max() < 1e-4
    assert np.abs(after - before).max() > 0.1


def test_the_mix_draws_them_in_the_share_that_is_asked_for(stacks):
    rng = np.random.default_rng(0)
    later = [objects_to_train(stacks, SIZE, PromptMix(later=0.5), rng).prompts.later for _ in range(200)]
    assert set(later) == {0, 1, 2, 3}
    assert abs(np.mean(np.array(later) > 0) - 0.5) < 3 * np.sqrt(0.25 / 200)
    assert {objects_to_train(stacks, SIZE, PromptMix(), rng).prompts.later for _ in range(50)} == {0}


def test_they_are_the_same_with_checkpointed_activations(stacks):
    totals = []
    for checkpointing in (False, True):
        network = make_network(activation_checkpointing=checkpointing)
        objects = prompted(stacks, 1, 2, seed=1)
        total = PromptLoss()(network(objects.prompts), objects).total
        total.backward()
        totals.append((total.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(totals[0][0], totals[1][0])
    torch.testing.assert_close(totals[0][1], totals[1][1], rtol=1e-3, atol=1e-5)
