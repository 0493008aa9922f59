"""Videos in trainings with prompts: colours, the first frame, forward in time, and the same images as in sessions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_sam2_3dmed.images.orientation import view_along
from nnunetv2_sam2_3dmed.interactive.intensities import RGB, ShownAs
from nnunetv2_sam2_3dmed.network.promptable_sam2 import build_promptable_sam2
from nnunetv2_sam2_3dmed.network.resizing import as_images, colours_as_images
from nnunetv2_sam2_3dmed.nnunet.sources import KEY, Source, Sources
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.shown_cases import ShownCases
from nnunetv2_sam2_3dmed.prompt_training.stacks import (
    PromptMix,
    StackMaker,
    Stacks,
    objects_to_train,
    objects_to_validate,
    single_slices,
)
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from nnunetv2_sam2_3dmed.prompt_training.video_validation import raw_video, segment_from_boxes
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL, TargetMaker
from nnunetv2_sam2_3dmed.video import Video, VideoSession
from tests.interactive.fake_gpu import GPU, NoWaiting, fake_copy
from tests.plans.test_planner import DATASET, make_plans
from tests.prompt_training.conftest import SIZE
from tests.training.conftest import CasesOnly

COLOUR = ShownAs(RGB, 0.0, 1.0, colour=True, pictures=True)
STRAIGHT = view_along(np.eye(3), 0)
BOXES = PromptMix(box=1.0, click=0.0, corrected=0.0)


@pytest.fixture
def clips(stacks) -> Stacks:
    """The two stacks in colour; the second one is a clip of a video."""
    return stacks._replace(grey=torch.rand(2, 4, 3, 24, 20), videos=frozenset({1}))


def test_colours_stay_apart_and_padding_is_black():
    maker = StackMaker(TargetMaker([1], None), COLOUR, [0, 1, 2])
    data = torch.rand(2, 3, 4, 6, 5)
    target = torch.zeros(2, 1, 4, 6, 5)
    target[0, 0, 1, 2, 3] = 1
    target[1, 0, 3] = PADDING_LABEL
    stacks = maker(data, target, [STRAIGHT] * 2, frozenset({0}))
    assert torch.equal(stacks.grey[0], data[0].transpose(0, 1))
    assert (stacks.grey[1, 3] == 0).all() and torch.equal(stacks.grey[1, 2], data[1, :, 2])
    assert stacks.masks.shape == (2, 1, 4, 6, 5) and stacks.counted.shape == (2, 4, 6, 5)
    assert stacks.videos == {0}
    alone = single_slices(stacks)
    assert torch.equal(alone.grey[5, 0], data[1, :, 1]) and not alone.videos


def test_grey_and_colour_become_the_same_images():
    grey = torch.rand(2, 3, 24, 20)
    three = grey.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(colours_as_images(three, 64).unflatten(0, (2, 3)), as_images(grey, 64))


def test_a_video_is_prompted_on_the_first_frame_with_the_object(clips):
    rng = np.random.default_rng(0)
    drawn = [objects_to_train(clips, SIZE, PromptMix(), rng).prompts for _ in range(60)]
    assert {int(prompts.slices[1]) for prompts in drawn} == {1}  # the object is on frames 1 and 2
    assert {int(prompts.slices[0]) for prompts in drawn} == {0, 1, 2}  # of the volume on any slice
    prompts = objects_to_validate(clips, SIZE, rng).prompts
    assert prompts.slices.tolist() == [1, 1] and prompts.videos == {1}
    colours = colours_as_images(clips.grey.flatten(0, 1), SIZE).unflatten(0, (2, 4))
    assert torch.equal(prompts.images, colours) and not torch.equal(colours[..., 0, :, :], colours[..., 1, :, :])


def test_a_video_is_propagated_forward_and_a_volume_both_ways(clips):
    network = build_promptable_sam2("sam2.1_hiera_tiny", SIZE, fitted_windows=True, precision="float32").eval()
    rng = np.random.default_rng(0)
    objects = objects_to_train(clips, SIZE, BOXES, rng)
    objects = objects._replace(prompts=objects.prompts._replace(slices=np.array([1, 1])))
    with torch.no_grad():
        answers = network(objects.prompts)
    found = sorted(
        pair for answer in answers for pair in zip(answer.objects.tolist(), answer.slices.tolist(), strict=True)
    )
    # frame 0 of the video lies before its prompt, and frame 3 is padding
    assert found == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("device", [torch.device("cpu"), GPU], ids=str)
def test_clips_in_colour_wait_for_nothing_on_a_gpu(clips, device, monkeypatch):
    network = build_promptable_sam2("sam2.1_hiera_tiny", SIZE, fitted_windows=True, precision="float32").train()
    objects = objects_to_train(clips, SIZE, BOXES, np.random.default_rng(0))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    network = fake_copy(network, mode, device)
    with mode:
        there = {
            name: torch.empty_like(value, device=device)
            for name, value in objects.prompts._asdict().items()
            if isinstance(value, torch.Tensor)
        }
        objects = objects._replace(prompts=objects.prompts._replace(**there))
        with NoWaiting():
            assert PromptLoss()(network(objects.prompts), objects).total.device == device


def test_training_shows_the_network_what_a_session_shows_it(lively_network):
    """But for the last step: PIL's bicubic resize in sessions, as SAM 2's loader, and a bilinear one in trainings."""
    rows, columns = np.mgrid[:96, :96] / 95
    frame = np.stack([rows, columns, 1 - rows * columns], axis=-1)
    frame = np.rint(frame * 255).astype(np.uint8)
    video = Video("v", Path("v"), (1, 96, 96), SimpleNamespace(decode=lambda index: [(index, frame)]))
    session = VideoSession(lively_network, "cpu", "float32")
    session.set_video(video)
    shown = session._axes[0].images([0])
    maker = StackMaker(TargetMaker([1], None), COLOUR, [0, 1, 2])
    data = torch.from_numpy(frame).permute(2, 0, 1)[None, :, None] / 255  # nnU-Net's RGBTo01Normalization
    stacks = maker(data, torch.zeros(1, 1, 1, 96, 96), [STRAIGHT])
    trained = colours_as_images(stacks.grey.flatten(0, 1), session.image_size)
    assert trained.shape == shown.shape
    assert (trained - shown)[..., 2:-2, 2:-2].abs().max() < 1.5 / 255 / 0.224  # a grey level and a half


# ---- the trainer


def test_the_trainer_draws_by_rate_and_makes_clips_of_videos(tmp_path, monkeypatch):
    for folder in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    plans = {**make_plans(normalization=RGB), "transpose_forward": [0, 1, 2], "continue_training": False}
    plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False]
    names = {"a": ["ct_1", "ct_2"], "b": ["echo_1", "echo_2"]}
    sources = Sources(
        pictures=True, merged=(Source("A", 1, False, tuple(names["a"])), Source("B", 40, True, tuple(names["b"])))
    )
    dataset = {**DATASET, KEY: sources.noted()}
    add_configurations(plans, dataset, PlanOptions(image_size=64, patch_size=(24, 20)))
    monkeypatch.setattr(SAM2_PromptTrainer, "slice_steps", (1, 2))
    trainer = SAM2_PromptTrainer(plans, "3d_slices8", 0, dataset, torch.device("cpu"))
    assert trainer.shown_as.pictures
    train, val = (CasesOnly("", cases) for cases in (["ct_1", "echo_1"], ["ct_2", "echo_2"]))
    trained, validated = trainer.as_drawn(train, val)
    assert trained.identifiers == ["ct_1", *["echo_1"] * 40] and validated.identifiers == ["ct_2", "echo_2"]
    assert isinstance(trained, ShownCases) and isinstance(validated, ShownCases)
    assert (trained._rates, validated._rates) == ((1, 2, 4), (1,))
    assert (trained._slice_steps, validated._slice_steps) == ((1, 2), (1,))


# ---- the final validation


@pytest.mark.parametrize("colour", [False, True])
def test_raw_files_are_the_video_that_was_converted(tmp_path, colour):
    pixels = np.random.default_rng(0).integers(0, 256, (3 if colour else 1, 3, 8, 9), dtype=np.uint8)
    for channel, array in enumerate(pixels):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"a.b_{channel:04d}.nii.gz"))
    video = raw_video(RawCase("a.b", tmp_path / "a.b_0000.nii.gz", tmp_path / "x"), len(pixels))
    expected = np.broadcast_to(pixels, (3, 3, 8, 9))
    np.testing.assert_array_equal(video.frame(1), np.moveaxis(expected[:, 1], 0, -1))


@pytest.mark.parametrize(
    "classes, values", [({"one": (1,), "two": (2,)}, [1, 2]), ({"all": (1, 2), "two": (2,)}, [1, 2])]
)
def test_validation_puts_the_box_on_the_first_frame_and_goes_forward(lively_network, tmp_path, classes, values):
    rng = np.random.default_rng(0)
    sitk.WriteImage(
        sitk.GetImageFromArray(rng.integers(0, 256, (5, 40, 48), dtype=np.uint8)), str(tmp_path / "v_0000.nii.gz")
    )
    gt = np.zeros((5, 40, 48), dtype=np.uint8)
    gt[2:, 10:25, 12:30] = 1
    gt[1:3, 30:36, 5:15] = 2
    sitk.WriteImage(sitk.GetImageFromArray(gt), str(tmp_path / "v.nii.gz"))
    case = RawCase("v", tmp_path / "v_0000.nii.gz", tmp_path / "v.nii.gz")
    session = VideoSession(lively_network, "cpu", "float32")
    boxes, ways = [], []
    add, propagate = session.add_box, session.propagate
    session.add_box = lambda *words: (boxes.append(words), add(*words))
    session.propagate = lambda *words, **more: (ways.append(more), propagate(*words, **more))
    found = segment_from_boxes(session, case, 1, classes, values, print)
    # corners are frame, row and column; the last ones are behind the object
    first = 2 if len(classes["one" if "one" in classes else "all"]) == 1 else 1
    assert [box[0][0] for box in boxes] == [first, 1] and boxes[1][:2] == ((1, 30, 5), (1, 36, 15))
    assert ways == [{"direction": "forward"}]
    assert not found[0].any() and found[1].any() and set(np.unique(found)) <= {0, 1, 2}
    masks = [session.mask(number) for number in (1, 2)]
    if first == 1:  # regions: the later one overwrites
        np.testing.assert_array_equal(found == 2, masks[1])
    np.testing.assert_array_equal(found > 0, masks[0] | masks[1])
