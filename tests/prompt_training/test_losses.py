"""Losses against formulas and hand-made masks."""

import math

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.network.promptable_sam2 import Answer
from nnunetv2_sam2_3dmed.network.resizing import at_image_size
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss, bce_loss, dice_loss, focal_loss, true_iou
from nnunetv2_sam2_3dmed.prompt_training.stacks import objects_to_validate

LOGITS = torch.tensor([[[[2.0, -1.0], [0.5, 3.0]]]])
TRUTH = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
ALL = torch.ones(1, 1, 2, 2)


def test_focal_loss_is_the_papers_formula():
    total = 0.0
    for logit, truth in zip(LOGITS.flatten().tolist(), TRUTH.flatten().tolist()):
        p = 1 / (1 + math.exp(-logit))
        hit, alpha = (p, 0.25) if truth else (1 - p, 0.75)
        total -= alpha * (1 - hit) ** 2 * math.log(hit)
    assert focal_loss(LOGITS, TRUTH, ALL).item() == pytest.approx(total / 4, rel=1e-5)


def test_bce_loss_is_the_mean_over_counted_pixels():
    counted = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    by_hand = [math.log(1 + math.exp(-2.0)), math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(-0.5))]
    assert bce_loss(LOGITS, TRUTH, counted).item() == pytest.approx(sum(by_hand) / 3, rel=1e-5)


def test_dice_loss_by_hand():
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5, 3.0)]
    assert dice_loss(LOGITS, TRUTH, ALL).item() == pytest.approx(
        1 - (2 * (p[0] + p[2]) + 1) / (sum(p) + 2 + 1), rel=1e-5
    )


def test_iou_counts_voxels_above_zero_and_ignored_ones_not_at_all():
    assert true_iou(LOGITS, TRUTH, ALL).item() == pytest.approx(2 / 3)
    counted = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])  # the wrong one is ignored
    assert true_iou(LOGITS, TRUTH, counted).item() == 1.0
    wrong = LOGITS.clone()
    wrong[..., 1, 1] = 50.0
    for loss in (focal_loss, dice_loss):
        assert torch.equal(loss(LOGITS, TRUTH, counted), loss(wrong, TRUTH, counted))


def answer(objects, candidates: torch.Tensor, expected: list[list[float]], presence: float, index: int) -> Answer:
    number = torch.zeros(1, dtype=torch.long)
    return Answer(
        number, number + index, candidates, torch.tensor(expected), torch.tensor([[presence]]), candidates[:, :1]
    )


def test_the_best_of_three_masks_is_trained_and_the_expectation_of_all(stacks):
    objects = objects_to_validate(stacks, 32, np.random.default_rng(0))
    assert objects is not None and objects.prompts.gt.shape[-2:] == (24, 20)
    truth = at_image_size(objects.prompts.gt[:1, 1], 32)
    good, bad = truth * 20 - 10, 10 - truth * 20
    masks = torch.cat([bad, good, bad], dim=1).requires_grad_()
    terms = PromptLoss()([answer(objects, masks, [[0.5, 0.75, 0.25]], 0.0, 1)], objects)
    # the good mask is found, what to expect is wrong by 0.5, 0.25 and 0.25, and presence is even
    assert terms.pixels.item() < 1e-6 and terms.dice.item() < 1e-3
    assert terms.iou.item() == pytest.approx((0.5 + 0.25 + 0.25) / 3)
    assert terms.presence.item() == pytest.approx(math.log(2))
    expected = 20 * terms.pixels + terms.dice + terms.iou + terms.presence
    assert terms.total.item() == pytest.approx(expected.item())
    terms.total.backward()
    assert masks.grad is not None
    assert (masks.grad[:, [0, 2]] == 0).all() and (masks.grad[:, 1] != 0).any()


def test_focal_and_dice_loss_are_weighted_20_to_1_as_in_medsam2(stacks):
    objects = objects_to_validate(stacks, 32, np.random.default_rng(0))
    assert objects is not None
    masks = torch.randn(1, 1, 32, 32)
    terms = PromptLoss()([answer(objects, masks, [[0.9]], 0.5, 1)], objects)
    gt = at_image_size(objects.prompts.gt[:1, 1], 32)
    pixels, overlap = (
        focal_loss(masks, gt, torch.ones_like(gt)).item(),
        dice_loss(masks, gt, torch.ones_like(gt)).item(),
    )
    assert pixels > 0.05
    rest = abs(0.9 - true_iou(masks, gt, torch.ones_like(gt)).item()) + math.log(1 + math.exp(-0.5))
    assert terms.total.item() == pytest.approx(20 * pixels + overlap + rest, rel=1e-5)


def test_where_the_object_is_not_only_its_presence_is_trained(stacks):
    objects = objects_to_validate(stacks, 32, np.random.default_rng(0))
    assert objects is not None
    masks = torch.randn(1, 1, 32, 32, requires_grad=True)
    terms = PromptLoss()([answer(objects, masks, [[0.9]], -3.0, 3)], objects)  # slice 3 does not have it
    assert terms.pixels == terms.dice == terms.iou == 0
    assert terms.presence.item() == pytest.approx(math.log(1 + math.exp(-3.0)), rel=1e-5)


def test_where_a_part_of_the_slice_is_ignored_absence_is_not_trained(stacks):
    counted = stacks.counted.clone()
    counted[0, 3, 0, 0] = False
    masks = torch.randn(1, 1, 32, 32)
    for index, known in ((2, True), (3, False)):
        objects = objects_to_validate(stacks._replace(counted=counted), 32, np.random.default_rng(0))
        assert objects is not None
        terms = PromptLoss()([answer(objects, masks, [[0.9]], -3.0, index)], objects)
        assert (terms.presence > 0) == known
