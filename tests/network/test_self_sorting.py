import math

import pytest
import torch

from nnunetv2_sam2_3dmed.network.mask_propagation import MaskPropagation
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.network.self_sorting import SelfSorting, SliceSummary, _bank, expected_iou, memories_to_attend
from nnunetv2_sam2_3dmed.network.slice_encoder import SliceFeatures


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_expected_iou_by_hand():
    # probabilities 0.9, 0.8, 0.3, 0.0: mask 1 1 0 0; smaller 0.9 + 0.8, larger 1 + 1 + 0.3, and one on either side
    masks = torch.tensor([logit(0.9), logit(0.8), logit(0.3), -100.0]).view(1, 1, 2, 2)
    assert expected_iou(masks).item() == pytest.approx(2.7 / 3.3)


def test_certain_masks_empty_ones_included_are_sure_and_undecided_ones_are_not():
    certain = torch.full((1, 2, 8, 8), -100.0)
    certain[:, 0, 2:5, 2:5] = 100.0
    assert expected_iou(certain).item() == pytest.approx(1)
    # all probabilities just under one half: nothing against 64 halves
    assert expected_iou(torch.full((1, 1, 8, 8), -1e-6)).item() == pytest.approx(1 / 33, rel=1e-4)


def test_an_absent_class_says_nothing_of_how_well_another_was_found():
    masks = torch.full((1, 3, 8, 8), -100.0)
    masks[:, 0] = 1e-6  # undecided everywhere: all of it, with probability one half each
    assert expected_iou(masks).item() == pytest.approx(33 / 65, rel=1e-4)


def summaries(directions: list[float], confidences: list[float]) -> list[SliceSummary]:
    """One stack; descriptors in the plane, by their angle in degrees."""
    return [
        SliceSummary(
            torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))]]),
            torch.tensor([c]),
        )
        for d, c in zip(directions, confidences, strict=True)
    ]


def slice_at(degrees: float) -> torch.Tensor:
    vector = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    return 5 * vector.view(1, 2, 1, 1).expand(1, 2, 3, 3)


def test_unsure_slices_are_left_out_as_long_as_there_are_enough():
    remembered = summaries([0, 90, 180, 270], [0.9, 0.1, 0.9, 0.4])
    assert memories_to_attend(remembered, slice_at(90), 2).flatten().tolist() == [0, 2]


def test_the_surest_of_the_unsure_fill_the_bank():
    remembered = summaries([0, 90, 180, 270], [0.9, 0.1, 0.4, 0.2])
    # likeness to 270 degrees: 0.5, 0, 0.5, 1; weights 0.45, 0.2, 0.2 of slices 0, 2, 3: shares 0.53, 0.24, 0.24.
    # Marks at 1/6, 1/2, 5/6 fall on slice 0 twice and, in the bank's order 0, 2, 3, on slice 3
    assert memories_to_attend(remembered, slice_at(270), 3).flatten().tolist() == [0, 0, 3]


@pytest.mark.parametrize("confidence, taken", [(0.49, False), (0.51, True)])
def test_confident_is_an_expected_iou_of_a_half(confidence, taken):
    """Two confident slices that are alike, and a third that differs most, if it is confident (decisions.md)."""
    remembered = summaries([0, 1, 180], [0.9, 0.9, confidence])
    bank = _bank(
        torch.stack([s.descriptor for s in remembered]), torch.stack([s.confidence for s in remembered]), size=2
    )
    assert (2 in bank.flatten().tolist()) == taken


def test_of_confident_slices_those_that_differ_most():
    # sums of 1 - cos to the others: 10 and 0 degrees differ little from each other and 20; 180 differs most
    remembered = summaries([0, 10, 20, 180], [0.9] * 4)
    chosen = set(memories_to_attend(remembered, slice_at(100), 2).flatten().tolist())
    assert chosen <= {3, 0} and 3 in chosen


def test_the_choice_is_the_same_where_the_network_computes_in_bfloat16():
    """Nine slices half a degree apart: their differences are far below what bfloat16 tells apart next to 18."""
    remembered = summaries([0.5 * n for n in range(9)], [0.9] * 9)
    expected = memories_to_attend(remembered, slice_at(2), 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(memories_to_attend(remembered, slice_at(2), 4), expected)
    # the outermost differ most from the others
    assert set(
        _bank(torch.stack([s.descriptor for s in remembered]), torch.full((9, 1), 0.9), 2).flatten().tolist()
    ) == {0, 8}


def test_a_memory_like_the_slice_comes_more_often():
    remembered = summaries([0, 180, 90, 270], [1.0] * 4)
    # likeness to 0 degrees: 1, 0, 1/2, 1/2: of four draws two, none, one, one
    assert memories_to_attend(remembered, slice_at(0), 4).flatten().tolist() == [0, 0, 2, 3]


def test_each_stack_of_a_batch_chooses_for_itself():
    first, second = summaries([0, 180], [1.0, 1.0]), summaries([180, 0], [1.0, 1.0])
    both = [
        SliceSummary(torch.cat([a.descriptor, b.descriptor]), torch.cat([a.confidence, b.confidence]))
        for a, b in zip(first, second, strict=True)
    ]
    here = slice_at(0).expand(2, -1, -1, -1)
    assert memories_to_attend(both, here, 2).tolist() == [[0, 1], [0, 1]]


def test_with_one_memory_the_branch_conditions_on_that_one():
    """Slice 1 has nothing to choose from: it differs from SAM 2's way only in the age of slice 0."""
    torch.manual_seed(0)
    size, grid = 64, 4
    branch = MaskPropagation(build_sam2_base("sam2.1_hiera_tiny", size), num_masks=2).eval()
    with torch.no_grad():
        branch.memory_age[0] = branch.memory_age[-1]  # slice 0 is the latest, and SAM 2's conditioning frame
        position = build_sam2_base("sam2.1_hiera_tiny", size).image_encoder.neck.position_encoding(
            torch.zeros(1, 256, grid, grid)
        )
        features = SliceFeatures(
            torch.randn(2, 2, 256, 4 * grid, 4 * grid),
            torch.randn(2, 2, 256, 2 * grid, 2 * grid),
            torch.randn(2, 2, 256, grid, grid),
            position,
        )
        usual = branch(features)
        branch.rule = SelfSorting()
        torch.testing.assert_close(branch(features), usual)


def test_nothing_of_the_choice_takes_part_in_training():
    masks = torch.randn(1, 1, 4, 4, requires_grad=True)
    embedding = torch.randn(1, 2, 3, 3, requires_grad=True)
    summary = SliceSummary.of(embedding, masks)
    assert not summary.descriptor.requires_grad and not summary.confidence.requires_grad
