"""A model is shown the same slices in training and in use, however files are stored and whatever nnU-Net reads with."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.spatial.transform import Rotation

from nnunetv2_sam2_3dmed.images.orientation import LEFT, POSTERIOR, SUPERIOR, view_along
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs, learned_normals, shown_as
from nnunetv2_sam2_3dmed.nnunet.stored_direction import direction_of
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser
from nnunetv2_sam2_3dmed.prompt_training.stacks import StackMaker
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

DATASET = {"labels": {"background": 0, "organ": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
# where the index axes x, y, z of a file point to
STORED = ["LPS", "RAS", "LPI", "RIP", "SRP", "PSR", "AIL", "IAR"]
OBLIQUE = Rotation.from_euler("zyx", [31, -24, 17], degrees=True).as_matrix()
READERS = ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"]
TURNING = READERS[2:]


def plans(reader: str, transpose_forward: list[int]) -> PlansManager:
    resampling = {
        f"resampling_fn_{what}{suffix}": value
        for what in ("data", "seg")
        for suffix, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}),
        )
    }
    return PlansManager(
        {
            "plans_name": "p",
            "dataset_name": "Dataset001_X",
            "image_reader_writer": reader,
            "label_manager": "LabelManager",
            "transpose_forward": transpose_forward,
            "foreground_intensity_properties_per_channel": {"0": {"mean": 50.0, "std": 50 / 3}},
            "configurations": {
                "3d": {
                    "normalization_schemes": ["NoNormalization"],
                    "use_mask_for_norm": [False],
                    "spacing": [2.0, 2.0, 2.0],  # as stored: nothing is resampled
                    "architecture": {},
                    **resampling,
                }
            },
        }
    )


def write_case(folder, stored: str, turned: np.ndarray) -> RawCase:
    """A volume of 10 x 14 x 12 voxels (z, y, x) with an object, stored in an orientation."""
    rng = np.random.default_rng(0)
    image = rng.uniform(1, 100, size=(10, 14, 12)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[2:7, 3:9, 4:11] = rng.uniform(size=(5, 6, 7)) < 0.7
    for name, array in (("image", image), ("label", label)):
        made = sitk.GetImageFromArray(array)
        made.SetSpacing((2.0, 2.0, 2.0))
        made = sitk.DICOMOrient(made, stored)
        made.SetDirection((turned @ np.array(made.GetDirection()).reshape(3, 3)).ravel().tolist())
        sitk.WriteImage(made, str(folder / f"{name}.nii.gz"))
    return RawCase("a", folder / "image.nii.gz", folder / "label.nii.gz")


def as_trained(case: RawCase, reader: str, transpose_forward: list[int]):
    """Grey levels and masks (slices, rows, columns) of a stack of all slices, and what the checkpoint says of them."""
    manager = plans(reader, transpose_forward)
    configuration = manager.get_configuration("3d")
    data, seg, properties = DefaultPreprocessor(verbose=False).run_case(
        [str(case.image)], str(case.label), manager, configuration, DATASET
    )
    shown = shown_as(manager, configuration, (0.0, 100.0), 1)
    direction = direction_of(properties)
    shown = ShownAs(**{**shown.for_checkpoint(), "normals": learned_normals([direction], shown.axis)})
    stacks = StackMaker(TargetMaker([1], None), shown, transpose_forward)(
        torch.from_numpy(data)[None], torch.from_numpy(seg)[None], [view_along(direction, shown.axis)]
    )
    return stacks.grey[0].numpy() * 255, stacks.masks[0, 0].numpy(), shown


@pytest.fixture
def session(lively_network):
    made = InteractiveSession(lively_network, "cpu", "float32")
    yield made
    lively_network.shown_as = None


def as_prompted(session, case: RawCase, shown: ShownAs):
    """The same as the validation and `segment` show it."""
    session._network.model.shown_as = shown
    prompted = SimulatedUser(session, case, {"organ": (1,)}, None)
    depth = prompted.gt[1].shape[0]
    seen = [
        session.slice_as_seen(prompted.axis, prompted.view.slice_index(i, prompted.image.shape)) for i in range(depth)
    ]
    return np.array(seen), prompted.gt[1]


@pytest.mark.parametrize("turned", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("transpose_forward", [[0, 1, 2], [2, 0, 1]], ids=["z first", "x first"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("stored", STORED)
def test_slices_are_those_of_the_training(stored, reader, transpose_forward, turned, session, tmp_path):
    case = write_case(tmp_path, stored, turned)
    grey, masks, shown = as_trained(case, reader, transpose_forward)
    seen, truth = as_prompted(session, case, shown)
    assert seen.shape == grey.shape and np.abs(seen - grey).max() <= 0.51  # grey levels are whole
    assert np.array_equal(truth, masks) and masks.any()


@pytest.mark.parametrize("reader", TURNING)
def test_readers_that_turn_images_train_along_one_axis_of_the_patient(reader, tmp_path):
    """nnU-Net's RAS has z, y and x along inferior-superior, anterior-posterior and left-right."""
    case = write_case(tmp_path, "AIL", np.eye(3))
    for first, normal in ((0, SUPERIOR), (1, POSTERIOR), (2, LEFT)):
        order = [first, *(axis for axis in range(3) if axis != first)]
        assert as_trained(case, reader, order)[2].normals == (normal,)


@pytest.mark.parametrize("stored", STORED)
def test_an_image_stored_otherwise_than_all_training_cases_is_cut_as_they_are(stored, session, tmp_path):
    grey, masks, shown = as_trained(write_case(tmp_path, "LPS", np.eye(3)), "SimpleITKIO", [0, 1, 2])
    seen, truth = as_prompted(session, write_case(tmp_path, stored, np.eye(3)), shown)
    assert np.abs(seen - grey).max() <= 0.51 and np.array_equal(truth, masks)


def direction(stored: str) -> np.ndarray:
    image = sitk.DICOMOrient(sitk.Image(2, 2, 2, sitk.sitkUInt8), stored)
    return np.array(image.GetDirection()).reshape(3, 3)


def test_cases_stored_in_several_orientations_are_learned_along_several_axes():
    axial, sagittal, coronal = direction("LPS"), direction("PSR"), direction("LSA")
    assert learned_normals([sagittal, *[axial] * 3], 0) == (SUPERIOR, LEFT)
    assert learned_normals([axial] * 9 + [coronal], 0) == (SUPERIOR, POSTERIOR)  # a tenth is enough
    assert learned_normals([axial] * 10 + [coronal], 0) == (SUPERIOR,)
    shown = ShownAs("NoNormalization", 0.0, 1.0, axis=0, normals=(SUPERIOR, LEFT))
    # along the axis that training takes of the file, where slices that way were learned
    assert [shown.axis_of(d) for d in (axial, sagittal)] == [0, 0]
    # else along the most frequent one: y of a coronal file is inferior-superior
    assert shown.axis_of(coronal) == 1
    only = ShownAs("NoNormalization", 0.0, 1.0, axis=0, normals=(SUPERIOR,))
    assert [only.axis_of(d) for d in (axial, sagittal, coronal)] == [0, 1, 1]


def test_models_that_did_not_note_it_keep_the_axis_of_the_array():
    old = ShownAs("NoNormalization", 0.0, 1.0, axis=2)
    assert [old.axis_of(direction(stored)) for stored in STORED] == [2] * len(STORED)


def test_reading_with_itk_is_what_a_session_does(tmp_path):
    case = write_case(tmp_path, "SRP", OBLIQUE)
    images, properties = SimpleITKIO().read_images([str(case.image)])
    volume = read_volume(case.image)
    assert np.array_equal(images[0], volume.array) and np.allclose(direction_of(properties), volume.direction)
