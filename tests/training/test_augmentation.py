import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnunetv2_sam2_3dmed.training.augmentation import (
    InPlaneAffineTransform,
    RandomMosaicTransform,
    paper_transforms,
    patch_size_to_load,
)


@pytest.fixture(autouse=True)
def seeded_numpy():
    np.random.seed(0)


def disc(size: int, radius: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = (size - 1) / 2
    return ((y - centre) ** 2 + (x - centre) ** 2 <= radius**2).float()


def test_without_angles_it_crops_the_centre():
    image = torch.randn(2, 10, 12)
    result = InPlaneAffineTransform((6, 8), probability=0)(image=image, segmentation=image.round().to(torch.int16))
    torch.testing.assert_close(result["image"], image[:, 2:8, 2:10], atol=1e-5, rtol=1e-5)
    assert torch.equal(result["segmentation"], image.round().to(torch.int16)[:, 2:8, 2:10])


def test_all_slices_turn_alike_and_image_and_labels_stay_together():
    slices = (disc(64, 20) - disc(64, 9)).expand(5, -1, -1).clone()
    result = InPlaneAffineTransform((40, 40))(image=slices, segmentation=slices.to(torch.int16))
    assert (result["image"] == result["image"][:1]).all()
    image, labels = result["image"] > 0.5, result["segmentation"] == 1
    assert 2 * (image & labels).sum() / (image.sum() + labels.sum()) > 0.97


def test_rotation_keeps_a_disc_and_shear_keeps_its_area():
    image = disc(64, 12)[None]
    rotated = InPlaneAffineTransform((48, 48), shear_degrees=0)(image=image, segmentation=None)["image"] > 0.5
    overlap = 2 * (rotated[0] * disc(48, 12)).sum() / (rotated.sum() + disc(48, 12).sum())
    assert overlap > 0.97
    sheared = InPlaneAffineTransform((48, 48), rotation_degrees=0)(image=image, segmentation=None)["image"]
    assert sheared.sum().item() == pytest.approx(image.sum().item(), rel=0.02)
    assert (sheared[0] - disc(48, 12)).abs().max() > 0.9, "the disc has become an ellipse"


def test_outside_is_zero_and_padding():
    result = InPlaneAffineTransform((20, 20), probability=0)(
        image=torch.ones(1, 10, 10), segmentation=torch.ones(1, 10, 10, dtype=torch.int16)
    )
    assert result["image"][0, 0, 0] == 0 and result["image"][0, 10, 10] == 1
    assert result["segmentation"][0, 0, 0] == -1 and result["segmentation"][0, 10, 10] == 1


@pytest.mark.parametrize("patch_size", [(12, 64, 48), (12, 512, 512), (6, 32, 96)])
def test_the_loaded_patch_leaves_no_corner_empty(patch_size):
    loaded = patch_size_to_load(patch_size)
    assert loaded[0] == patch_size[0]
    transform = InPlaneAffineTransform(patch_size[1:])
    for _ in range(30):
        ones = torch.ones(1, *loaded[1:])
        assert transform(image=ones, segmentation=None)["image"].min() > 0.4


@pytest.mark.parametrize("shape", [(8, 12), (7, 9)])
def test_mosaic_tiles_four_copies_with_their_labels(shape):
    image = torch.zeros(3, *shape)
    image[:, 2:5, 3:6] = 1
    result = RandomMosaicTransform()(image=image, segmentation=image.to(torch.int16))
    assert result["image"].shape == result["segmentation"].shape == (3, *shape)
    half, wide = (shape[0] + 1) // 2, (shape[1] + 1) // 2
    tiles = [result["segmentation"][0, y : y + half, x : x + wide] for y in (0, half) for x in (0, wide)]
    assert all((tile == 1).any() for tile in tiles), "each copy keeps its labels"
    assert set(result["segmentation"].unique().tolist()) == {0, 1}


def test_the_paper_s_transforms_keep_shape_and_labels():
    image = torch.randn(2, 4, 40, 44)
    labels = torch.randint(-1, 3, (1, 4, 40, 44), dtype=torch.int16)
    chain = ComposeTransforms(paper_transforms(InPlaneAffineTransform((24, 28)), mirror_axes=(2,)))
    for _ in range(20):
        data = chain(image=image.clone(), segmentation=labels.clone())
        assert data["image"].shape == (2, 4, 24, 28) and data["segmentation"].shape == (1, 4, 24, 28)
        assert set(data["segmentation"].unique().tolist()) <= {-1, 0, 1, 2}
