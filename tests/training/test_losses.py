import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nnunetv2_sam2_3dmed.network.sam2_3dmed import TrainingOutput
from nnunetv2_sam2_3dmed.training import losses
from nnunetv2_sam2_3dmed.training.losses import (
    DiceBCELoss,
    SAM2_3dMedLoss,
    bce_loss,
    boundary_loss,
    srpp_loss,
)
from nnunetv2_sam2_3dmed.training.targets import TargetMaker, Targets, boundary_of


def targets_of(masks: torch.Tensor, counted: torch.Tensor | None = None) -> Targets:
    if counted is None:
        counted = torch.ones_like(masks[:, :1], dtype=torch.bool)
    return Targets(masks, counted, torch.ones(masks.shape[0], masks.shape[2], dtype=torch.bool))


def test_bce_by_hand():
    """Logits 0, log 3 and -log 3 are probabilities 1/2, 3/4 and 1/4."""
    logits = torch.tensor([0.0, math.log(3), -math.log(3), 0.0]).view(1, 1, 1, 2, 2)
    masks = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 2, 2)
    expected = (math.log(2) + math.log(4 / 3) + math.log(4) + math.log(2)) / 4
    assert bce_loss(logits, targets_of(masks)).item() == pytest.approx(expected)


def test_ignored_voxels_do_not_count():
    logits = torch.tensor([0.0, 50.0]).view(1, 1, 1, 1, 2)
    masks = torch.zeros(1, 1, 1, 1, 2)
    counted = torch.tensor([True, False]).view(1, 1, 1, 1, 2)
    assert bce_loss(logits, targets_of(masks, counted)).item() == pytest.approx(math.log(2))
    everything_ignored = targets_of(masks, torch.zeros_like(counted))
    assert bce_loss(logits, everything_ignored).item() == 0


def test_srpp_by_hand():
    """Three slices, all offsets predicted as 0: (1 + 4 + 1 + 1 + 4 + 1) / (3 * 2) = 2; perfect ones cost nothing."""
    there = torch.ones(1, 3, dtype=torch.bool)
    assert srpp_loss(torch.zeros(1, 3, 3), there).item() == pytest.approx(2.0)
    perfect = torch.tensor([[[0.0, 1, 2], [-1, 0, 1], [-2, -1, 0]]])
    assert srpp_loss(perfect, there).item() == 0
    # j - i, not i - j
    assert srpp_loss(-perfect, there).item() == pytest.approx(8.0)


def test_srpp_in_millimetres_weighs_as_in_slices():
    """Slices 2.5 mm apart: perfect offsets are 2.5 (j - i); an error of 5 mm is one of two slices."""
    there = torch.ones(1, 2, dtype=torch.bool)
    perfect = torch.tensor([[[0.0, 2.5], [-2.5, 0.0]]])
    assert srpp_loss(perfect, there, slice_distance=2.5).item() == 0
    assert srpp_loss(perfect + 5.0, there, slice_distance=2.5).item() == pytest.approx(4.0)


def test_srpp_ignores_its_diagonal_and_padded_slices():
    offsets = torch.diag_embed(torch.full((1, 3), 100.0))
    there = torch.tensor([[True, True, False]])
    # only the pairs (0, 1) and (1, 0) are left: (1 + 1) / 2
    assert srpp_loss(offsets, there).item() == pytest.approx(1.0)
    assert srpp_loss(offsets, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_boundary_loss_by_hand():
    """Loss of 49 voxels, of which 24 are boundary (see test_targets); all logits are 0, so each voxel costs log 2."""
    mask = torch.zeros(1, 1, 1, 7, 7)
    mask[..., 2:5, 2:5] = 1
    assert boundary_of(mask).sum() == 24
    expected = math.log(2) * (25 / 49 * 24 + 24 / 49 * 25) / 49
    assert boundary_loss(torch.zeros_like(mask), targets_of(mask)).item() == pytest.approx(expected)


def test_boundary_loss_weighs_the_rarer_kind_more():
    mask = torch.zeros(1, 1, 1, 9, 9)
    mask[..., 4, 4] = 1  # 9 boundary voxels, 72 others
    on_boundary, elsewhere = torch.zeros(1, 1, 1, 9, 9), torch.zeros(1, 1, 1, 9, 9)
    on_boundary[..., 4, 4] = -5.0  # wrong on a boundary voxel
    elsewhere[..., 0, 0] = 5.0  # as wrong on another
    rest = boundary_loss(torch.zeros_like(mask), targets_of(mask))
    wrong_boundary = boundary_loss(on_boundary, targets_of(mask)) - rest
    wrong_elsewhere = boundary_loss(elsewhere, targets_of(mask)) - rest
    assert (wrong_boundary / wrong_elsewhere).item() == pytest.approx(72 / 9, rel=1e-4)


def test_nothing_is_called_a_boundary_beside_ignored_voxels():
    """Half of the slice is foreground, the rest ignored: where the edge is, nobody knows."""
    masks = torch.zeros(1, 1, 1, 6, 6)
    masks[..., :3] = 1
    counted = masks.bool()
    sure_of_no_boundary = torch.full_like(masks, -40.0)
    assert boundary_loss(sure_of_no_boundary, targets_of(masks)) > 0.1
    assert boundary_loss(sure_of_no_boundary, targets_of(masks, counted)).item() == pytest.approx(0, abs=1e-6)


def test_dice_bce_adds_minus_dice():
    """Saturated logits: cross entropy is about 0, and Dice of 2 overlapping of 2 and 4 voxels is 2 * 2 / 6."""
    masks = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 2, 3)
    logits = torch.tensor([40.0, 40, -40, -40, -40, -40]).view(1, 1, 1, 2, 3)
    combined = DiceBCELoss(batch_dice=True)(logits, targets_of(masks))
    assert combined.item() == pytest.approx(bce_loss(logits, targets_of(masks)).item() - 4 / 6, abs=1e-4)


def random_output(num_masks: int, side: int = 8) -> TrainingOutput:
    shape = (1, 3, num_masks, side, side)
    return TrainingOutput(torch.randn(shape), torch.randn(shape), torch.randn(1, 3, 3))


def test_total_is_the_weighted_sum_and_validation_sees_the_masks_alone():
    target = torch.randint(0, 3, (1, 1, 3, 8, 8))
    output = random_output(2)
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), srpp_weight=0.01, boundary_weight=0.1)
    terms = loss.terms(output, target)
    expected = terms.segmentation + 0.01 * terms.srpp + 0.1 * terms.boundary
    torch.testing.assert_close(terms.total, expected)
    # nnU-Net's heads: a background and the classes; the background is a constant and must not enter
    foreground = output.masks.transpose(1, 2)
    for background in (0.0, 3.0):
        heads = torch.cat([torch.full_like(foreground[:, :1], background), foreground], dim=1)
        torch.testing.assert_close(loss(heads, target), terms.segmentation)


def test_masks_are_compared_at_the_size_of_the_patch():
    target = torch.randint(0, 3, (1, 1, 3, 24, 20))
    output = random_output(2)
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], None))
    logits = F.interpolate(output.masks[0], size=(24, 20), mode="bilinear").transpose(0, 1)[None]
    expected = bce_loss(logits, TargetMaker([1, 2], None)(target))
    torch.testing.assert_close(loss.terms(output, target).segmentation, expected)


@pytest.mark.parametrize("segmentation_loss", [bce_loss, DiceBCELoss(batch_dice=True), DiceBCELoss(batch_dice=False)])
@pytest.mark.parametrize("regions", [False, True])
def test_groups_of_classes_give_the_losses_of_all_at_once(monkeypatch, segmentation_loss, regions):
    """Seven classes, two of them at a time: the same terms and gradients."""
    if regions:
        target, maker = torch.rand(1, 9, 3, 16, 12) < 0.3, TargetMaker([], 8, regions=True, num_regions=7)
    else:
        target, maker = torch.randint(-1, 9, (1, 1, 3, 16, 12)), TargetMaker(range(1, 8), ignore_label=8)
    output = random_output(7)
    results = []
    for at_once in (7, 2):
        monkeypatch.setattr(losses, "LOGITS_AT_ONCE", at_once * 3 * 16 * 12)
        leaves = [level.clone().requires_grad_() for level in output[:2]]
        loss = SAM2_3dMedLoss(maker, segmentation_loss)
        terms = loss.terms(TrainingOutput(*leaves, output.offsets), target)
        gradients = torch.autograd.grad(terms.total, leaves)
        heads = torch.randn(1, 7 if regions else 8, 3, 16, 12, generator=torch.Generator().manual_seed(0))
        results.append([*terms, *gradients, loss(heads, target)])
    torch.testing.assert_close(results[0], results[1])


class LargeTensors(TorchDispatchMode):
    """Counter of the tensors of at least ``numel`` numbers that operations make."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.found = numel, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.found += isinstance(result, torch.Tensor) and result.numel() >= self.numel
        return result


def test_groups_of_classes_do_not_each_get_a_gradient_of_all(monkeypatch):
    """Masks are large where they are refined: 100 classes of 48 slices at 512 pixels have 4.7 GiB."""
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 3 * 16 * 12)  # a class at a time
    masks = torch.randn(1, 3, 7, 16, 12, requires_grad=True)
    target = torch.randint(0, 8, (1, 1, 3, 16, 12))
    loss = SAM2_3dMedLoss(TargetMaker(range(1, 8), None)).terms(TrainingOutput(masks, None, None), target).total
    with LargeTensors(masks.numel()) as large:
        loss.backward()
    assert large.found < 7, "there are 7 groups"


def test_terms_that_a_variant_lacks_are_none():
    target = torch.randint(0, 3, (1, 1, 3, 8, 8))
    terms = SAM2_3dMedLoss(TargetMaker([1, 2], None)).terms(
        random_output(2)._replace(boundaries=None, offsets=None), target
    )
    assert terms.srpp is None and terms.boundary is None
    torch.testing.assert_close(terms.total, terms.segmentation)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_dice_bce_leaves_ignored_voxels_out_as_if_they_were_not_there(batch_dice):
    """The same loss and gradients as of the patch without its last columns, which are ignored."""
    masks, logits = (torch.rand(2, 2, 3, 4, 5) < 0.4).float(), torch.randn(2, 2, 3, 4, 5)
    counted = torch.ones(2, 1, 3, 4, 5, dtype=torch.bool)
    counted[..., 3:] = False
    loss = DiceBCELoss(batch_dice)
    whole = logits.clone().requires_grad_()
    part = logits[..., :3].clone().requires_grad_()
    found, expected = loss(whole, targets_of(masks, counted)), loss(part, targets_of(masks[..., :3]))
    torch.testing.assert_close(found, expected)
    (gradient,), (expected_gradient,) = torch.autograd.grad(found, whole), torch.autograd.grad(expected, part)
    torch.testing.assert_close(gradient[..., :3], expected_gradient)
    assert (gradient[..., 3:] == 0).all()
