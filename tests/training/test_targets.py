import torch

from nnunetv2_sam2_3dmed.training.targets import TargetMaker, boundary_of


def test_boundary_of_a_square_is_two_voxels_wide():
    """A 3 x 3 square in a 7 x 7 slice: dilation 5 x 5, erosion its centre; the ring between is the boundary."""
    mask = torch.zeros(1, 1, 1, 7, 7)
    mask[..., 2:5, 2:5] = 1
    expected = torch.zeros(7, 7)
    expected[1:6, 1:6] = 1
    expected[3, 3] = 0
    assert torch.equal(boundary_of(mask)[0, 0, 0], expected)


def test_boundary_of_a_single_voxel_of_a_full_and_of_an_empty_slice():
    masks = torch.zeros(1, 1, 3, 5, 5)
    masks[0, 0, 0, 2, 2] = 1  # a point: its 3 x 3 neighbourhood
    masks[0, 0, 1] = 1  # all of the patch: no edge is seen
    boundary = boundary_of(masks)[0, 0]
    assert boundary[0].sum() == 9 and boundary[0, 1:4, 1:4].all()
    assert boundary[1].sum() == 0 and boundary[2].sum() == 0


def test_boundary_stays_within_its_slice_and_class():
    masks = torch.zeros(1, 2, 3, 6, 6)
    masks[0, 1, 1, 2:4, 2:4] = 1
    boundary = boundary_of(masks)
    assert boundary[0, 1, 1].sum() == 16  # 2 x 2 grown to 4 x 4, eroded to nothing
    assert boundary.sum() == 16


def test_boundary_touching_the_edge_of_the_patch():
    """Half of the patch: the edge inside is a boundary, the patch's own border is not."""
    mask = torch.zeros(1, 1, 1, 4, 6)
    mask[..., :3] = 1
    expected = torch.zeros(4, 6)
    expected[:, 2:4] = 1
    assert torch.equal(boundary_of(mask)[0, 0, 0], expected)


def test_label_target_with_ignore_label_and_padding():
    target = torch.tensor([[0, 1, 2, 3], [-1, -1, -1, -1]]).view(1, 1, 2, 2, 2)
    targets = TargetMaker([1, 2], ignore_label=3)(target)
    assert targets.masks.shape == (1, 2, 2, 2, 2)
    assert targets.masks[0, 0].flatten().tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert targets.masks[0, 1].flatten().tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert targets.counted.flatten().tolist() == [True, True, True, False, True, True, True, True]
    assert targets.slices.tolist() == [[True, False]]


def test_a_slice_with_some_padding_still_exists():
    target = torch.tensor([[-1, 0], [-1, -1]]).view(1, 1, 2, 1, 2)
    assert TargetMaker([1], None)(target).slices.tolist() == [[True, False]]


def test_region_target_with_ignore_and_padding_channels():
    whole, core, ignored, padding = ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])
    target = torch.tensor([whole, core, ignored, padding], dtype=torch.bool).view(1, 4, 4, 1, 1)
    make = TargetMaker([], ignore_label=9, regions=True, num_regions=2)
    targets = make(target)
    assert targets.masks.flatten(2).tolist() == [[whole, core]]
    assert targets.counted.flatten().tolist() == [True, True, False, True]
    assert targets.slices.tolist() == [[True, True, True, False]]
    # in validation there is no padding channel
    assert make(target[:, :3]).slices.tolist() == [[True] * 4]
