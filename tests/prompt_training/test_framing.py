"""Slices fill the output whatever part of the loaded patch they are."""

import torch

from nnunetv2_sam2_3dmed.prompt_training.framing import FramedAffineTransform
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL

ROWS, COLUMNS = slice(4, 12), slice(10, 20)  # what of a loaded patch of 20 x 24 is image


def loaded() -> tuple[torch.Tensor, torch.Tensor]:
    image, segmentation = torch.zeros(3, 20, 24), torch.full((3, 20, 24), PADDING_LABEL, dtype=torch.int16)
    image[:, ROWS, COLUMNS] = torch.arange(80.0).reshape(8, 10)
    segmentation[:, ROWS, COLUMNS] = 0
    segmentation[1, 4:6, 10:12] = 1  # a corner of the image
    return image, segmentation


def test_an_image_of_the_outputs_size_comes_out_as_it_is():
    image, segmentation = loaded()
    out = FramedAffineTransform((8, 10), probability=0)(image=image, segmentation=segmentation)
    assert torch.allclose(out["image"], image[:, ROWS, COLUMNS], atol=1e-4)
    assert torch.equal(out["segmentation"], segmentation[:, ROWS, COLUMNS])


def test_a_smaller_one_is_stretched_over_it():
    image, segmentation = loaded()
    out = FramedAffineTransform(None, probability=0)(image=image, segmentation=segmentation)
    assert out["image"].shape == (3, 20, 24) and (out["segmentation"] != PADDING_LABEL).all()
    # a quarter of 8 rows and a fifth of 10 columns, of 20 and 24: 5 and 4.8
    assert (out["segmentation"][1] == 1).nonzero().amax(dim=0).tolist() == [4, 4]


def test_zoom_cuts_the_edges_off():
    image, segmentation = loaded()
    transform = FramedAffineTransform((8, 10), zoom=(2.0, 2.0))
    transform.rotation_degrees = transform.shear_degrees = 0.0
    out = transform(image=image, segmentation=segmentation)
    assert out["segmentation"].unique().tolist() == [0]  # the corner is gone
    middle = image[0, 6:10, 12:18].mean()  # symmetric about the centre, as a linear image's mean is
    assert abs(out["image"][0].mean() - middle) < 0.1
    assert abs((out["image"][0, 4, 5] - out["image"][0, 4, 4]) - 0.5) < 1e-4  # a voxel has become two


def test_zoom_is_drawn_from_nine_tenths_to_seven_fifths():
    transform = FramedAffineTransform((8, 10))
    _, segmentation = loaded()
    shown = torch.stack([transform.frame(segmentation=segmentation)[1] for _ in range(300)])
    zoom = torch.tensor([10.0, 8.0]) / shown  # of the 10 columns and 8 rows of the image
    assert torch.allclose(zoom[:, 0], zoom[:, 1])
    assert 0.9 <= zoom.min() < 0.92 and 1.37 < zoom.max() <= 1.4


def test_padding_alone_comes_out_as_padding():
    image, segmentation = loaded()
    segmentation[:] = PADDING_LABEL
    out = FramedAffineTransform((8, 10))(image=image, segmentation=segmentation)
    assert out["image"].shape == (3, 8, 10) and (out["segmentation"] == PADDING_LABEL).all()
