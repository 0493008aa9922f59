import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunetv2_sam2_3dmed.training.augmentation import (
    InPlaneAffineTransform,
    NetworkImageBlurTransform,
    RandomMosaicTransform,
    StackNoiseTransform,
    gaussian_kernel,
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
    chain = ComposeTransforms(paper_transforms(InPlaneAffineTransform((24, 28)), mirror_axes=(2,), image_size=64))
    for _ in range(20):
        data = chain(image=image.clone(), segmentation=labels.clone())
        assert data["image"].shape == (2, 4, 24, 28) and data["segmentation"].shape == (1, 4, 24, 28)
        assert set(data["segmentation"].unique().tolist()) <= {-1, 0, 1, 2}


def always(transforms: list[BasicTransform]) -> ComposeTransforms:
    """The same transforms, those that are drawn at random included."""
    return ComposeTransforms([t.transform if isinstance(t, RandomTransform) else t for t in transforms])


def test_the_order_is_the_paper_s():
    affine = InPlaneAffineTransform((24, 28))
    transforms = paper_transforms(affine, mirror_axes=(2,), image_size=64)
    inner = [type(t.transform if isinstance(t, RandomTransform) else t) for t in transforms]
    assert [t for t in inner if t not in (Convert3DTo2DTransform, Convert2DTo3DTransform)] == [
        MirrorTransform,
        InPlaneAffineTransform,
        StackNoiseTransform,
        NetworkImageBlurTransform,
        RandomMosaicTransform,
    ]
    mosaic = transforms[inner.index(RandomMosaicTransform)]
    assert mosaic.apply_probability == 0.15
    off = paper_transforms(affine, (2,), 64, 0.0, noise_probability=0.0, blur_probability=0.0)
    assert [t.apply_probability for t in off if isinstance(t, RandomTransform)] == [0.0, 0.0, 0.0]


def test_all_slices_of_a_stack_are_changed_alike():
    transforms = paper_transforms(InPlaneAffineTransform((24, 28)), mirror_axes=(2,), image_size=64)
    slices = torch.rand(2, 1, 40, 44)  # two channels
    data = always(transforms)(
        image=slices.expand(-1, 5, -1, -1).clone(),
        segmentation=(slices[:1] > 0.5).to(torch.int16).expand(-1, 5, -1, -1).clone(),
    )
    for key in ("image", "segmentation"):
        assert torch.equal(data[key], data[key][:, :1].expand_as(data[key]))
    assert not torch.equal(data["image"][0], data["image"][1])


def test_noise_is_one_field_per_channel_of_the_strength_that_is_asked_for():
    chain = ComposeTransforms(
        [
            Convert3DTo2DTransform(),
            StackNoiseTransform(noise_variance=0.3, p_per_channel=1, synchronize_channels=True),
            Convert2DTo3DTransform(),
        ]
    )
    image = torch.arange(3.0)[None, :, None, None].expand(2, -1, 100, 100).clone()
    noise = chain(image=image.clone(), segmentation=torch.zeros(1, 3, 100, 100))["image"] - image
    torch.testing.assert_close(noise, noise[:, :1].expand_as(noise))
    assert noise[:, 0].flatten(1).std(dim=1).tolist() == pytest.approx([0.3, 0.3], rel=0.05)
    assert abs(torch.corrcoef(noise[:, 0].flatten(1))[0, 1]) < 0.05


@pytest.mark.parametrize("sigma", [0.125, 0.25, 1.0, 2.5])
def test_the_kernel_has_the_variance_that_its_name_says(sigma):
    kernel = gaussian_kernel(sigma).double()
    places = torch.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum().item() == pytest.approx(1)
    assert (kernel * places**2).sum().item() == pytest.approx(sigma**2, rel=1e-4)


def test_blur_is_as_strong_in_the_network_s_image_whatever_the_patch():
    """A patch of 64 x 32 shown at 256 is enlarged 4 and 8 times: 2 pixels are 0.5 and 0.25 voxels."""
    point = torch.zeros(2, 64, 32)
    point[:, 32, 16] = 1
    blurred = NetworkImageBlurTransform(2.0, image_size=256)(image=point.clone())["image"]
    assert torch.equal(blurred[0], blurred[1]) and blurred[0].sum().item() == pytest.approx(1)
    rows, columns = blurred[0].sum(dim=1), blurred[0].sum(dim=0)
    assert (rows * (torch.arange(64) - 32) ** 2).sum().item() == pytest.approx(0.5**2, rel=1e-3)
    assert (columns * (torch.arange(32) - 16) ** 2).sum().item() == pytest.approx(0.25**2, rel=1e-3)
    # a patch of the image's size is blurred by as many voxels as pixels
    point = torch.zeros(1, 64, 64)
    point[:, 32, 32] = 1
    rows = NetworkImageBlurTransform(2.0, image_size=64)(image=point)["image"][0].sum(dim=1)
    assert (rows * (torch.arange(64) - 32) ** 2).sum().item() == pytest.approx(4, rel=1e-3)
