import copy
import inspect
import json

import pytest
from nnunetv2_sam2_3dmed.plans.planner import (
    PlanOptions,
    add_configuration,
    image_size_for,
    in_plane_patch_size,
    intensity_range,
    number_of_masks,
    planned_step,
)

from nnunetv2_sam2_3dmed.commands.plan import memory_sentence
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training.checks import check_configuration
from nnunetv2_sam2_3dmed.training.memory import TrainingStep

DATASET = {"labels": {"background": 0, "organ": 1, "lesion": 2}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
REGIONS = {**DATASET, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}


def make_plans(median=(90, 512, 512), normalization="CTNormalization") -> dict:
    fullres = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [64, 192, 160],
        "median_image_size_in_voxels": list(median),
        "spacing": [2.5, 0.8, 0.8],
        "normalization_schemes": [normalization],
        "batch_dice": False,
        "architecture": {"network_class_name": "x.PlainConvUNet", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    return {
        "dataset_name": "Dataset009_Spleen",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            "2d": {**fullres, "patch_size": [512, 512]},
            "3d_fullres": fullres,
            "3d_lowres": {**fullres, "next_stage": "3d_cascade_fullres"},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


@pytest.mark.parametrize(
    "median, in_plane, image_size",
    [
        ((512, 512), (512, 512), 512),
        ((630, 600), (512, 512), 512),
        ((320, 250), (320, 256), 512),
        ((240, 240), (240, 240), 512),
        ((50, 35), (64, 48), 256),
    ],
)
def test_patch_covers_the_median_slice(median, in_plane, image_size):
    assert in_plane_patch_size(median) == in_plane
    assert image_size_for(in_plane) == image_size


def test_the_configuration_inherits_and_changes_nothing_else():
    plans = make_plans()
    before = copy.deepcopy(plans)
    configuration = add_configuration(plans, DATASET, PlanOptions())
    assert plans["configurations"].pop("3d") is configuration
    assert plans == before
    assert configuration["inherits_from"] == "3d_fullres" and configuration["patch_size"] == [12, 512, 512]
    assert configuration["architecture"]["arch_kwargs"]["image_size"] == 512


def test_every_option_of_the_network_lies_in_the_plan_as_json():
    architecture = add_configuration(make_plans(), DATASET, PlanOptions())["architecture"]["arch_kwargs"]
    given_by_nnunet = {"self", "input_channels", "num_classes"}
    assert set(architecture) == set(inspect.signature(SAM2_3dMed.__init__).parameters) - given_by_nnunet
    assert json.loads(json.dumps(architecture)).keys() == architecture.keys()
    SAM2_3dMed(1, 3, **{**architecture, "image_size": 64})


def test_what_was_planned_can_be_trained_and_planned_again():
    for dataset in (DATASET, REGIONS):
        plans = make_plans()
        add_configuration(plans, dataset, PlanOptions(slices=6))
        check_configuration(plans, "3d", dataset)
        add_configuration(plans, dataset, PlanOptions(slices=3))
        assert plans["configurations"]["3d"]["patch_size"][0] == 3


def test_intensity_range_without_normalization():
    """Three standard deviations of the foreground; of several channels the range that holds each."""
    foreground = {
        "0": {"mean": 50.0, "std": 10.0, "percentile_00_5": 20.0, "percentile_99_5": 80.0},
        "1": {"mean": 0.5, "std": 0.5, "percentile_00_5": 0.0, "percentile_99_5": 1.0},
    }
    none, z_score = "NoNormalization", "ZScoreNormalization"
    assert intensity_range([none], foreground) == [20, 80]
    assert intensity_range([none, none], foreground) == [-1, 80]
    assert intensity_range([z_score, none], foreground) == [-3, 3]  # a mask
    with pytest.raises(UserError, match="channel 0 is not normalised and has intensities of 20 to 80"):
        intensity_range([none, z_score], foreground)
    plans = make_plans(normalization=none) | {"foreground_intensity_properties_per_channel": foreground}
    assert add_configuration(plans, DATASET, PlanOptions())["architecture"]["arch_kwargs"]["intensity_range"] == [
        20,
        80,
    ]


@pytest.mark.parametrize(
    "normalization, expected", [("ZScoreNormalization", [-3, 3]), ("RescaleTo01Normalization", [0, 1])]
)
def test_intensity_range_follows_the_normalization(normalization, expected):
    plans = make_plans(normalization=normalization)
    assert (
        add_configuration(plans, DATASET, PlanOptions())["architecture"]["arch_kwargs"]["intensity_range"] == expected
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (PlanOptions(image_size=500), "the image size is 500"),
        (PlanOptions(backbone="sam"), "the backbone is 'sam'"),
        (PlanOptions(slices=1), "at least 2 slices"),
        (PlanOptions(patch_size=(4, 64)), "too small"),
        (PlanOptions(num_memories=9), "the number of memories is 9"),
        (PlanOptions(batch_size=0), "the batch size is 0"),
        (PlanOptions(gpu_memory=0), "the GPU memory is 0 GiB"),
        (PlanOptions(gpu_memory=float("nan")), "the GPU memory is nan GiB"),
        (PlanOptions(name="3d_fullres"), "already has a configuration '3d_fullres'"),
    ],
)
def test_options_that_cannot_work_are_named(options, message):
    plans = make_plans()
    before = copy.deepcopy(plans)
    with pytest.raises(UserError, match=message):
        add_configuration(plans, DATASET, options)
    assert plans == before


def test_without_3d_fullres_there_is_nothing_to_inherit_from():
    plans = make_plans()
    del plans["configurations"]["3d_fullres"]
    with pytest.raises(UserError, match="nnUNetv2_plan_and_preprocess -d ID -c 3d_fullres"):
        add_configuration(plans, DATASET, PlanOptions())


@pytest.mark.parametrize(
    "configuration, message",
    [
        ("3d", "sam2_3dmed plan -d Dataset009_Spleen"),
        ("2d", "two-dimensional"),
        ("3d_cascade_fullres", "second stage of a cascade"),
        ("3d_fullres", "planned for PlainConvUNet"),
    ],
)
def test_configurations_that_cannot_be_trained(configuration, message):
    with pytest.raises(UserError, match=message):
        check_configuration(make_plans(), configuration, DATASET)


@pytest.mark.parametrize("configuration", ["3d_slices8", "2d", "3d_cascade_fullres", "3d_fullres"])
def test_the_remedy_is_the_configuration_of_the_trainer(configuration):
    """Another one would be refused for its slices."""
    with pytest.raises(UserError, match="(add|use the configuration) `3d_slices8`"):
        check_configuration(make_plans(), configuration, DATASET, 8)


def test_a_plan_edited_by_hand_is_checked():
    plans = make_plans()
    add_configuration(plans, DATASET, PlanOptions())
    plans["configurations"]["3d"]["patch_size"] = [16, 512, 512]
    with pytest.raises(UserError, match="has 16 slices, but the network was planned for num_slices 12"):
        check_configuration(plans, "3d", DATASET)
    plans["configurations"]["3d"]["patch_size"] = [12, 512, 512]
    with pytest.raises(UserError, match="has regions"):
        check_configuration(plans, "3d", REGIONS)


# ---------------------------------------------------------------- memory


def planned(**options) -> tuple[int, bool]:
    """Batch size and checkpointing for slices of 512 x 512 voxels."""
    configuration = add_configuration(make_plans(), DATASET, PlanOptions(**options))
    return configuration["batch_size"], configuration["architecture"]["arch_kwargs"]["activation_checkpointing"]


def test_the_plan_fits_the_memory_that_it_is_made_for():
    """The paper's batch of 4 as long as anything allows it: first with checkpointing, then smaller batches."""
    assert planned(gpu_memory=24) == (4, False)
    assert planned() == planned(gpu_memory=8) == (4, True)
    less = [planned(gpu_memory=memory) for memory in (3.5, 3.0, 2.5)]
    assert all(checkpointing for _, checkpointing in less)
    assert [batch for batch, _ in less] == sorted((batch for batch, _ in less), reverse=True) and less[-1][0] < 4
    for memory in (24.0, 8.0, 3.5, 3.0):
        batch, checkpointing = planned(gpu_memory=memory)
        step = TrainingStep(batch, (12, 512, 512), 512, 2, checkpointing=checkpointing)
        assert step.expected_bytes() / 2**30 + 1 <= memory
    assert planned(gpu_memory=0.5) == (1, True)  # does not fit, and the command says so


def test_what_the_user_states_is_planned_whether_it_fits_or_not():
    assert planned(batch_size=6) == (6, True)
    assert planned(batch_size=6, checkpointing=False) == (6, False)
    assert planned(checkpointing=False, gpu_memory=8)[0] < 4
    assert planned(checkpointing=True, gpu_memory=80) == (4, True)


def test_small_images_need_no_checkpointing():
    configuration = add_configuration(make_plans((36, 50, 35)), DATASET, PlanOptions())
    assert configuration["batch_size"] == 4
    assert not configuration["architecture"]["arch_kwargs"]["activation_checkpointing"]


@pytest.mark.parametrize(
    "options, wanted",
    [
        ({"gpu_memory": 24.0}, "for trainers whose trunk trains. For those, plan with --checkpointing on."),
        ({"gpu_memory": 8.0}, "With `--gpu-memory 18` it would be planned without checkpointing"),
        ({"gpu_memory": 0.5}, "That is more than 0.5 GiB: plan again with a smaller --image-size"),
    ],
)
def test_the_command_says_what_it_expects(options, wanted):
    configuration = add_configuration(make_plans(), DATASET, PlanOptions(**options))
    step = planned_step(configuration, number_of_masks(make_plans(), DATASET))
    sentence = memory_sentence(step, **options)
    assert wanted in sentence
    expected = step.expected_bytes() / 2**30 + 1
    assert f"Expected on one GPU: {expected:.1f} GiB for SAM2_3dMedTrainer" in sentence
