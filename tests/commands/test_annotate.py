"""``sam2_3dmed annotate``, run as the command line does, with a checkpoint of random weights."""

import json

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
from nnunetv2_sam2_3dmed.annotation.record import read_record, voxels_sha256
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompt_training.finetuning import Finetuning
from tests.annotation.conftest import make_folders, make_images, read, write
from tests.interactive.reference import SIZE, random_weights


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "")  # which the command sets
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path)
    return make_folders(tmp_path, monkeypatch)


def loop(action, *words):
    return main(["annotate", action, "-d", "301", *map(str, words)])


def test_the_stages_of_a_lesion(folders, capsys):
    """Box, 2D mask, revision with first and last slice, volume, revision, dataset."""
    torch.save({"model": random_weights()}, folders / "model.pt")
    (folders / "prompts.csv").write_text(
        'image,prompt,where,object\nimages/new_1_0000.nii.gz,recist,"3,10,22:3,30,22",1\n'
    )
    options = ("--model", "model.pt", "--image-size", SIZE, "-device", "cpu", "--precision", "float32")
    assert loop("outline", "--prompts", "prompts.csv", "--round", "round_1", *options) == 0
    captured = capsys.readouterr()
    assert captured.out == (folders / "round_1" / "outlines.csv").read_text()
    assert (folders / "round_1" / "outline_previews" / "new_1.png").is_file()
    assert loop("outline", "--prompts", "prompts.csv", "--round", "round_1", *options) == 0  # nothing is left to do
    assert "1 of 1 cases are done already" in capsys.readouterr().err

    drawn = np.zeros_like(read(folders / "round_1" / "outlines" / "new_1.nii.gz"))
    drawn[3, 10:30, 12:33] = 1
    write(folders / "revised" / "new_1.nii.gz", drawn)
    table = folders / "round_1" / "outlines.csv"
    table.write_text(captured.out.rstrip().removesuffix(",,") + ",2,4\n")
    rank = ("rank", "--prompts", table, "--round", "round_1", *options, "--no-preview")
    assert loop(*rank, "--revised", "revised") == 0
    volume = read(folders / "round_1" / "masks" / "new_1.nii.gz")
    assert np.flatnonzero(volume.any(axis=(1, 2))).tolist() == [2, 3, 4]
    np.testing.assert_array_equal(volume[3], drawn[3])
    content = json.loads((folders / "round_1" / "round.json").read_text())
    assert set(content["outlines"]) == set(content["cases"]) == {"new_1"}
    assert loop(*rank) == 2 and "with other prompts" in capsys.readouterr().err  # without what was revised

    assert loop("take", "--round", "round_1", "--confirmed", "new_1", "--partial") == 0
    np.testing.assert_array_equal(read(open_dataset("301").label("new_1")), volume)


def test_revised_masks_belong_to_a_table(folders, capsys):
    words = ("rank", "--predictions", "predictions", "-i", "images", "--round", "round_1", "--revised", "revised")
    assert loop(*words) == 2 and "--revised replaces masks of --prompts" in capsys.readouterr().err


def test_rank_and_take(folders, capsys):
    torch.save({"model": random_weights()}, folders / "model.pt")
    (folders / "prompts.csv").write_text(
        'image,prompt,where,object\nimages/new_1_0000.nii.gz,box,"3,10,12:3,30,33",1\n'
        'images/new_2_0000.nii.gz,point,"3,15,15",3\n'
    )
    rank = ("rank", "--prompts", "prompts.csv", "--round", "round_1", "--model", "model.pt", "--image-size", SIZE)
    assert loop(*rank, "-device", "cpu", "--precision", "float32", "--no-preview") == 0
    captured = capsys.readouterr()
    assert captured.out == (folders / "round_1" / "ranking.csv").read_text() and len(captured.out.splitlines()) == 3
    content = json.loads((folders / "round_1" / "round.json").read_text())
    assert content["model_sha256"] == sha256_of(folders / "model.pt") and set(content["cases"]) == {"new_1", "new_2"}

    corrected = read(folders / "round_1" / "masks" / "new_1.nii.gz")
    corrected[0] = 3 - corrected[0]
    corrected[corrected == 2] = 0
    write(folders / "corrected" / "new_1.nii.gz", corrected)
    assert loop("take", "--round", "round_1", "--corrected", "corrected", "--annotator", "Ada") == 0
    assert "took 1 of 2 cases (0 machine, 0 confirmed, 1 corrected)" in capsys.readouterr().out
    dataset = open_dataset("301")
    np.testing.assert_array_equal(read(dataset.label("new_1")), corrected)
    row = read_record(dataset.folder)["new_1"]
    assert (row.source, row.round, row.annotator) == ("corrected", "round_1", "Ada")
    assert (row.model, row.model_sha256) == (str(folders / "model.pt"), content["model_sha256"])

    assert row.round_id == content["id"] and row.label_sha256 == voxels_sha256(corrected)
    corrected[0] = 4
    write(folders / "corrected" / "new_1.nii.gz", corrected)
    again = ("take", "--round", "round_1", "--corrected", "corrected")
    assert loop(*again) == 2 and "add --replace" in capsys.readouterr().err
    assert loop(*again, "--replace") == 0 and (read(dataset.label("new_1"))[0] == 4).all()
    partial = ("take", "--round", "round_1", "--confirmed", "new_2")
    assert loop(*partial) == 2 and "new_2 had no prompt for organ" in capsys.readouterr().err
    assert loop(*partial, "--partial") == 0 and dataset.has("new_2")

    # the rest of the round can still be ranked and taken; another image size is another round
    assert loop(*rank, "-device", "cpu", "--precision", "float32", "--no-preview", "--group-by", "(new)_") == 0
    captured = capsys.readouterr()
    assert "2 of 2 cases are done already" in captured.err
    ranked = [line.rsplit(",", 2)[1:] for line in captured.out.splitlines()[-3:]]
    assert ranked == [["patient", "chosen"], ["new", "yes"], ["new", "no"]]
    # the round keeps its patients, and then how many of each are chosen
    for more in (("--per-patient", 2), ()):
        assert loop(*rank, "-device", "cpu", "--precision", "float32", "--no-preview", *more) == 0
        ranked = [line.rsplit(",", 2)[1:] for line in capsys.readouterr().out.splitlines()[-2:]]
        assert ranked == [["new", "yes"], ["new", "yes"]]
    assert loop(*rank[:-1], 96, "-device", "cpu") == 2
    assert f"--image-size {SIZE}, but now it is 96: repeat the command with" in capsys.readouterr().err

    # in a second round, those that were taken are left out
    second = ("rank", "--prompts", "prompts.csv", "--round", "round_2", "--model", "model.pt")
    assert loop(*second) == 2 and "add --skip-taken to leave out all such cases" in capsys.readouterr().err
    assert loop(*second, "--skip-taken") == 2 and "of the names of all 2 images" in capsys.readouterr().err
    write(folders / "images" / "new_3_0000.nii.gz", read(folders / "images" / "new_1_0000.nii.gz"))
    with (folders / "prompts.csv").open("a") as file:
        file.write('images/new_3_0000.nii.gz,point,"3,15,15",3\n')
    options = ("--image-size", SIZE, "-device", "cpu", "--precision", "float32", "--no-preview", "--skip-taken")
    assert loop("outline", *second[1:], *options) == 0
    assert "2 of 3 images are left out: Dataset301_Tiny has training cases" in capsys.readouterr().err
    assert set(json.loads((folders / "round_2" / "round.json").read_text())["outlines"]) == {"new_3"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["rank", "--predictions", "images", "--round", "r"],
            "--predictions and -i, the folder of their images, belong",
        ),
        (["rank", "--prompts", "none.csv", "--round", "r"], "none.csv cannot be read as CSV"),
        (["rank", "--prompts", "p.csv", "--round", "r", "--window", "40", "wide"], "--window is 40 wide"),
        (["rank", "--prompts", "p.csv", "--round", "r", "--group-by", "(new"], "is not a regular expression"),
        (["rank", "--prompts", "p.csv", "--round", "r", "--per-patient", "0"], "--per-patient is 0, but must be at"),
        (["take", "--round", "r"], "give the folder of a round"),
        (["take", "--round", "r", "--accept-below", "5"], "--accept-below is 5, but a disagreement is 0 to 1"),
        (["finetune", "-f", "0", "--epochs", "0"], "--epochs is 0, but must be at least 1"),
        (["finetune", "-f", "0", "--c", "--epochs", "3"], "leave --model and --epochs out"),
        (["finetune", "-f", "0", "-device", "cpu"], "run `nnUNetv2_plan_and_preprocess"),
    ],
)
def test_mistakes_are_said_in_a_sentence(folders, capsys, words, message):
    assert loop(*words) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("sam2_3dmed annotate: ") and "Traceback" not in said
    assert not (folders / "r").exists()


def test_finetune_uses_every_option(folders, monkeypatch):
    asked = []

    class Recording:
        def __init__(self, dataset, *words):
            asked.append((dataset.name, *words))

        def prepare(self, model, epochs, processes, progress, seen_validation):
            asked.append((model, epochs, processes, seen_validation))
            return Finetuning("m.pth", "abc", "T", {}, 1e-5, None, epochs)

        def begun(self):
            return Finetuning("m.pth", "abc", "T", {}, 1e-5, None, 6)

        def train(self, device, go_on):
            asked.append((device, go_on))

    monkeypatch.setattr("nnunetv2_sam2_3dmed.annotation.finetuning.FinetuningRun", Recording)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    words = ("-f", 3, "-c", "3d_b", "-p", "Plans", "-tr", "Mine", "-device", "cpu")
    assert loop("finetune", *words, "--model", "m.pth", "--epochs", 4, "--seen-validation", "-np", 5) == 0
    assert asked == [("Dataset301_Tiny", "3d_b", 3, "Mine", "Plans"), ("m.pth", 4, 5, True), ("cpu", False)]
    asked.clear()
    assert loop("finetune", "-f", 0, "-device", "cpu") == 0
    # MedSAM2's second round took six epochs
    assert asked[1] == (None, 6, 2, False)
    assert loop("finetune", *words, "--c") == 0 and asked[-1] == ("cpu", True)


def test_rank_uses_every_option(folders, monkeypatch):
    asked = []

    class Session:
        def __init__(self, *words):
            asked.append(words)
            self.image_size = words[-1]

    class Recording:
        def __init__(self, session, *words):
            asked.append(words)

        def run(self, cases, into, progress):
            asked.append([case.name for case in cases])
            return {}

    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.InteractiveSession", Session)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.annotation.ranking.Ranking", Recording)
    (folders / "m.pt").write_bytes(b"weights")
    for case in ("new_1", "new_2"):
        write(folders / "predictions" / f"{case}.nii.gz", np.zeros((2, 3, 4), np.uint8))
    words = ("--predictions", "predictions", "-i", "images", "--round", "r", "--model", "m.pt", "--axis", 2)
    assert (
        loop("rank", *words, "-device", "cpu", "--precision", "float32", "--image-size", 96, "--window", 40, 400) == 0
    )
    assert asked == [
        ("m.pt", "cpu", "float32", 96),
        ({1: "organ", 3: "lesion"}, 2, (40.0, 400.0), True),
        ["new_1", "new_2"],
    ]
    assert loop("rank", *words[:-2], "--no-preview") == 0 and asked[4][1:] == (None, "auto", False)
