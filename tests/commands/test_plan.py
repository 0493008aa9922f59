"""Labels that `sam2_3dmed plan` refuses, before it writes anything."""

import argparse
import json

import pytest

from nnunetv2_sam2_3dmed.commands import plan
from nnunetv2_sam2_3dmed.errors import UserError
from tests.nnunet.test_preprocessed_labels import write_case
from tests.plans.test_planner import DATASET, make_plans

NAME = "Dataset009_Spleen"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The dataset's folder in nnUNet_preprocessed, planned by nnU-Net; cases have the labels 0, 1 and 2."""
    for variable in ("raw", "preprocessed", "results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    folder = tmp_path / "preprocessed" / NAME
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "nnUNetPlans.json").write_text(json.dumps(make_plans()))
    for case in ("a", "b"):
        write_case(folder / "nnUNetPlans_3d_fullres", case, [1, 2])
    return folder


def run(*options: str) -> None:
    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    plan.run(parser.parse_args(["-d", NAME, "--image-size", "64", *options]))


def test_labels_as_declared_are_planned_and_noted(folder, capsys):
    run()
    assert "3d" in json.loads((folder / "nnUNetPlans.json").read_text())["configurations"]
    note = json.loads((folder / "nnUNetPlans_3d_fullres.labels.json").read_text())
    assert {case: said["labels"] for case, said in note.items()} == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert "warning" not in capsys.readouterr().err


def test_a_stray_label_in_one_case_ends_the_planning(folder):
    write_case(folder / "nnUNetPlans_3d_fullres", "c", [1, 5])
    before = (folder / "nnUNetPlans.json").read_bytes()
    with pytest.raises(UserError, match="the case c of Dataset009_Spleen holds the label 5, but .* declares 0, 1, 2"):
        run()
    assert (folder / "nnUNetPlans.json").read_bytes() == before


def test_a_class_that_no_case_has_is_told(folder, capsys):
    labels = {**DATASET["labels"], "vessel": 3}
    (folder / "dataset.json").write_text(json.dumps({**DATASET, "labels": labels}))
    run()
    assert "None of the 2 preprocessed cases of Dataset009_Spleen holds any voxel of vessel" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, said",
    [
        (json.dumps({**DATASET, "labels": {"background": 0, "organ": 1, "lesion": 3}}), "leave out 2"),
        ("{", "is no valid JSON"),
    ],
)
def test_a_dataset_json_that_cannot_be_trained_ends_the_planning(folder, content, said):
    (folder / "dataset.json").write_text(content)
    before = (folder / "nnUNetPlans.json").read_bytes()
    with pytest.raises(UserError, match=said):
        run()
    assert (folder / "nnUNetPlans.json").read_bytes() == before


def test_before_preprocessing_there_is_nothing_to_look_at(folder):
    for file in (folder / "nnUNetPlans_3d_fullres").iterdir():
        file.unlink()
    run()
    assert not (folder / "nnUNetPlans_3d_fullres.labels.json").exists()


def damaged(**changes) -> dict:
    """Plans whose 3d_fullres has other values; what is None is missing."""
    plans = make_plans()
    fullres = plans["configurations"]["3d_fullres"]
    fullres.update(changes)
    for key in [key for key, value in changes.items() if value is None]:
        del fullres[key]
    return plans


@pytest.mark.parametrize(
    "plans, said",
    [
        ([], r"nnUNetPlans.json holds a list"),
        (None, "nnUNetPlans.json holds a NoneType"),
        ({}, "'dataset_name' is None"),
        ({**make_plans(), "dataset_name": 9}, "'dataset_name' is 9"),
        ({**make_plans(), "configurations": []}, r"'configurations' is \[\]"),
        ({**make_plans(), "label_manager": "Nobody"}, "the label manager 'Nobody'"),
        ({**make_plans(), "configurations": {"3d_fullres": [1]}}, "'3d_fullres' .* is damaged"),
        (damaged(inherits_from="3d_fullres"), "'3d_fullres' .* is damaged .*Circular"),
        (damaged(inherits_from="nothing"), "'3d_fullres' .* is damaged .*nothing does not exist"),
        (damaged(median_image_size_in_voxels=None), "is damaged .*median_image_size_in_voxels"),
        (damaged(median_image_size_in_voxels=[512, 512]), r"'median_image_size_in_voxels' .* is \[512, 512\]"),
        (damaged(median_image_size_in_voxels=[90, float("nan"), 512]), "'median_image_size_in_voxels' .* nan"),
        (damaged(median_image_size_in_voxels=[90, "512", 512]), "'median_image_size_in_voxels' .* '512'"),
        (damaged(normalization_schemes="CTNormalization"), "'normalization_schemes' .* is 'CTNormalization'"),
        (damaged(data_identifier=None), "is damaged .*data_identifier"),
        (damaged(data_identifier=""), "'data_identifier' .* is ''"),
    ],
)
def test_plans_that_are_none_are_refused_and_left_alone(folder, plans, said):
    file = folder / "nnUNetPlans.json"
    file.write_text(json.dumps(plans))
    before = file.read_bytes()
    with pytest.raises(UserError, match=said) as refused:
        run()
    assert "write it again" in str(refused.value) and file.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a/b", "a__b", "a b", "../3d"])
def test_names_that_no_folder_of_nnunet_can_have_are_refused(folder, name):
    with pytest.raises(UserError, match="name of a configuration is .* letters, digits, '.', '-' and single"):
        run("--name", name)


@pytest.mark.parametrize(
    "options, place, expected",
    [
        ("--backbone sam2_hiera_small", "backbone", "sam2_hiera_small"),
        ("--image-size 96", "image_size", 96),
        ("--slices 5", "num_slices", 5),
        ("--memories 3", "num_memories", 3),
        ("--checkpointing on", "activation_checkpointing", True),
        ("--checkpointing off --gpu-memory 1", "activation_checkpointing", False),
    ],
)
def test_options_of_the_network_reach_the_plan(folder, options, place, expected):
    run(*options.split())
    written = json.loads((folder / "nnUNetPlans.json").read_text())["configurations"]
    assert written["3d"]["architecture"]["arch_kwargs"][place] == expected
    if place == "num_slices":  # beside it, those of the paper's Table 7 and MedSAM2's
        assert {name: written[name]["patch_size"][0] for name in written if name.startswith("3d_slices")} == {
            "3d_slices3": 3,
            "3d_slices6": 6,
            "3d_slices8": 8,
        }
        assert written["3d"]["patch_size"][0] == expected


def test_options_of_the_patch_and_the_memory_reach_the_plan(folder):
    run("--patch-size", "48", "80", "--batch-size", "3", "--name", "mine")
    configurations = json.loads((folder / "nnUNetPlans.json").read_text())["configurations"]
    assert "3d" not in configurations
    assert configurations["mine"]["patch_size"] == [12, 48, 80] and configurations["mine"]["batch_size"] == 3
    # more memory, more stacks: 512 pixels, for which 8 GiB need checkpointing and 24 do not
    needs_checkpointing = []
    for memory in ("8", "24"):
        run("--image-size", "512", "--gpu-memory", memory)
        planned = json.loads((folder / "nnUNetPlans.json").read_text())["configurations"]["3d"]
        needs_checkpointing.append(planned["architecture"]["arch_kwargs"]["activation_checkpointing"])
    assert needs_checkpointing == [True, False]


def test_another_plans_file_is_read_and_written(folder, capsys):
    plans = {**make_plans(), "plans_name": "OtherPlans"}
    (folder / "OtherPlans.json").write_text(json.dumps(plans))
    before = (folder / "nnUNetPlans.json").read_bytes()
    run("-p", "OtherPlans")
    assert "3d" in json.loads((folder / "OtherPlans.json").read_text())["configurations"]
    assert (folder / "nnUNetPlans.json").read_bytes() == before
    assert "0 -tr SAM2_3dMedTrainer -p OtherPlans" in capsys.readouterr().out
