"""Stacks and prompts made from nnU-Net's batches."""

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.images.orientation import view_along
from nnunetv2_sam2_3dmed.interactive.intensities import Z_SCORE, ShownAs
from nnunetv2_sam2_3dmed.prompt_training.stacks import (
    PromptMix,
    StackMaker,
    Stacks,
    objects_to_train,
    objects_to_validate,
    single_slices,
)
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL, TargetMaker

UPRIGHT = np.eye(3)
UPSIDE_DOWN = np.diag([-1.0, -1.0, 1.0])  # RAS, as many NIfTI files are


@pytest.fixture
def maker() -> StackMaker:
    return StackMaker(TargetMaker([1, 2], None), ShownAs(Z_SCORE, -3.0, 3.0), [0, 1, 2])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    data = torch.linspace(-4, 4, 3 * 5 * 4).reshape(1, 1, 3, 5, 4)
    target = torch.zeros(1, 1, 3, 5, 4)
    target[0, 0, 0, 0, 0], target[0, 0, 1, 4, 3] = 1, 2
    target[0, 0, 2] = PADDING_LABEL
    return data, target


def test_grey_levels_run_from_black_to_white_and_padding_is_black(maker):
    data, target = batch()
    stacks = maker(data, target, [view_along(UPRIGHT, 0)])
    assert torch.allclose(stacks.grey[0, :2], ((data[0, 0, :2] + 3) / 6).clamp(0, 1))
    assert (stacks.grey[0, 2] == 0).all() and stacks.real.tolist() == [[True, True, False]]
    assert stacks.masks[0, 0].nonzero().tolist() == [[0, 0, 0]]
    assert stacks.masks[0, 1].nonzero().tolist() == [[1, 4, 3]]


def test_stacks_are_turned_as_a_users_image_is(maker):
    data, target = batch()
    stored = maker(data, target, [view_along(UPSIDE_DOWN, 0)])
    shown = maker(data.flip(-1, -2), target.flip(-1, -2), [view_along(UPRIGHT, 0)])
    for one, other in zip(stored[:4], shown[:4]):  # the tensors
        assert torch.equal(one, other)


def test_slices_along_another_axis_and_stored_backwards():
    # nnU-Net has put the array's last axis first; it runs to the right, and what is shown runs to the left
    maker = StackMaker(TargetMaker([1], None), ShownAs(Z_SCORE, 0.0, 1.0, axis=2), [2, 0, 1])
    array = torch.rand(4, 5, 3)  # z, y, x
    view = view_along(UPSIDE_DOWN, 2)
    target = torch.zeros(1, 1, 3, 4, 5)
    target[0, 0, 0] = PADDING_LABEL
    stacks = maker(array.permute(2, 0, 1)[None, None], target, [view])
    seen = torch.tensor(np.ascontiguousarray(view.of(array.numpy())))
    assert stacks.real.tolist() == [[True, True, False]]
    assert torch.equal(stacks.grey[0, :2], seen[:2])


def test_validation_prompts_every_object_with_the_box_on_its_middle_slice(stacks):
    objects = objects_to_validate(stacks, 64, np.random.default_rng(0))
    assert objects is not None
    prompts = objects.prompts
    assert objects.classes == [0, 1]
    assert prompts.stacks.tolist() == [0, 1] and prompts.slices.tolist() == [1, 2]
    assert prompts.real.tolist() == [[True] * 4, [True, True, True, False]]
    assert prompts.labels.tolist() == [[2, 3], [2, 3]]
    # rows 5 to 15 of 24 and columns 4 to 12 of 20, and rows 8 to 12 and columns 4 to 9: x and y of 64 pixels
    scale = torch.tensor([64 / 20, 64 / 24])
    assert torch.allclose(prompts.points[0], torch.tensor([[4.0, 5.0], [12.0, 15.0]]) * scale)
    assert torch.allclose(prompts.points[1], torch.tensor([[4.0, 8.0], [9.0, 12.0]]) * scale)


def test_training_boxes_move_by_up_to_ten_pixels_of_512(stacks):
    rng = np.random.default_rng(0)
    tight = torch.tensor([[4.0, 5.0], [12.0, 15.0]]) * torch.tensor([64 / 20, 64 / 24])
    moved = []
    for _ in range(60):
        objects = objects_to_train(stacks, 64, PromptMix(box=1.0, click=0.0), rng)
        moved.append((objects.prompts.points[0] - tight) * 512 / 64)
    moved = torch.stack(moved)
    assert 8 < moved.max() <= 10 and -10 <= moved.min() < -8


def test_training_draws_objects_slices_and_kinds(stacks):
    rng = np.random.default_rng(0)
    drawn = [objects_to_train(stacks, 64, PromptMix(), rng) for _ in range(200)]
    assert {tuple(o.classes) for o in drawn} == {(0, 1)}
    assert {o.prompts.slices[0].item() for o in drawn} == {0, 1, 2}
    assert {o.prompts.slices[1].item() for o in drawn} == {1, 2}  # never padding
    masks = [o.prompts for o in drawn if o.prompts.masks is not None]
    clicks = [o.prompts for o in drawn if o.prompts.points is not None and o.prompts.points.shape[1] == 1]
    assert 30 < len(masks) < 70 and 30 < len(clicks) < 70
    corrected = sum(o.prompts.corrections > 0 for o in drawn)
    assert 0.37 < corrected / (200 - len(masks)) < 0.63  # half of them, within three standard deviations
    assert all(prompts.corrections == 0 for prompts in masks)
    assert {o.prompts.corrections for o in drawn} == {0, 1, 2, 3}
    for prompts in clicks:
        x, y = (prompts.points[0, 0] * torch.tensor([20, 24]) / 64).round().long()
        assert prompts.gt[0, prompts.slices[0], y, x] and prompts.labels[0].tolist() == [1]


def test_stacks_without_objects_are_left_out(stacks):
    empty = stacks._replace(masks=stacks.masks.clone())
    empty.masks[0] = False
    objects = objects_to_train(empty, 64, PromptMix(), np.random.default_rng(0))
    assert objects.prompts.stacks.tolist() == [1]
    empty.masks[1] = False
    assert objects_to_train(empty, 64, PromptMix(), np.random.default_rng(0)) is None


def test_the_mask_of_the_only_slice_is_no_prompt(stacks):
    rng = np.random.default_rng(0)
    masks = PromptMix(box=0.0, click=0.0)
    assert objects_to_train(stacks, 64, masks, rng).prompts.masks is not None
    only = torch.zeros_like(stacks.real)
    only[:, 1] = True
    prompts = objects_to_train(stacks._replace(real=only), 64, masks, rng).prompts
    assert prompts.masks is None and prompts.labels.tolist() == [[2, 3], [2, 3]]


def test_up_to_three_objects_of_a_stack_are_prompted():
    masks = torch.zeros(2, 5, 2, 10, 10, dtype=torch.bool)
    masks[0, :, :, 2:4, 2:4] = True
    masks[1, 3, 1, 2:4, 2:4] = True
    every = torch.ones(2, 2, 10, 10, dtype=torch.bool)
    stacks = Stacks(torch.rand(2, 2, 10, 10), masks, every, torch.ones(2, 2, dtype=torch.bool))
    rng = np.random.default_rng(0)
    drawn = [objects_to_train(stacks, 64, PromptMix(), rng) for _ in range(30)]
    for objects in drawn:
        assert objects.prompts.stacks.tolist() == [0, 0, 0, 1]
        assert len(set(objects.classes[:3])) == 3 and objects.classes[3] == 3
    assert {number for objects in drawn for number in objects.classes[:3]} == {0, 1, 2, 3, 4}


def test_slices_by_themselves(stacks):
    alone = single_slices(stacks)
    assert alone.grey.shape == (7, 1, 24, 20) and alone.real.all()  # one of eight is padding
    assert torch.equal(alone.grey[5, 0], stacks.grey[1, 1]) and torch.equal(alone.masks[5, 1, 0], stacks.masks[1, 1, 1])
    objects = objects_to_train(stacks, 64, PromptMix(box=0.0, click=0.0, images=1.0), np.random.default_rng(0))
    # the first object is on slices 0 to 2 of the first stack, the second on 1 and 2 of the second; masks become boxes
    assert objects.prompts.stacks.tolist() == [0, 1, 2, 5, 6] and objects.classes == [0, 0, 0, 1, 1]
    assert objects.prompts.slices.tolist() == [0] * 5 and objects.prompts.labels.tolist() == [[2, 3]] * 5
