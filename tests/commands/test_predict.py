import json
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.inference.whole_files import WholeFilesPredictor


@pytest.fixture
def model(tmp_path) -> Path:
    """A results folder with fold 1 trained, as far as it is looked at before a network is built."""
    folder = tmp_path / "SAM2_3dMedTrainer__nnUNetPlans__3d"
    (folder / "fold_1").mkdir(parents=True)
    (folder / "fold_0_old").mkdir()
    (folder / "fold_0_old" / "checkpoint_final.pth").touch()  # a backup is no fold
    (folder / "plans.json").write_text(json.dumps({"dataset_name": "D", "plans_name": "P", "configurations": {}}))
    (folder / "dataset.json").write_text(
        json.dumps({"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
    )
    torch.save({"network_weights": {}}, folder / "fold_1" / "checkpoint_final.pth")
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "case_0000.nii.gz").touch()
    return folder


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "")


def said(capsys, *arguments) -> str:
    assert main(["predict", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_what_is_wrong_is_said_before_anything_is_loaded(model, images, tmp_path, capsys, monkeypatch):
    where = ("-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert "fold_0/checkpoint_final.pth does not exist (trained: 1)" in said(capsys, *where, "-f", "0", "1")
    assert "no fold is trained" in said(capsys, *where, "-chk", "checkpoint_best.pth")
    assert "-step_size is 0" in said(capsys, *where, "-step_size", "0")
    assert "--windows is 0" in said(capsys, *where, "--windows", "0")
    assert "-num_parts is 0" in said(capsys, *where, "-num_parts", "0")
    assert "-part_id is 2" in said(capsys, *where, "-num_parts", "2", "-part_id", "2")
    assert "either -d" in said(capsys, *where, "-d", "4")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none_of_the_kind(model, images, tmp_path, capsys):
    assert "has no plans.json" in said(capsys, "-m", images, "-i", images, "-o", tmp_path)
    assert "nowhere is not a folder" in said(capsys, "-m", model, "-i", tmp_path / "nowhere", "-o", tmp_path)
    assert "holds no image CASE_0000.nii.gz" in said(capsys, "-m", model, "-i", model, "-o", tmp_path)


def test_a_gpu_that_is_not_there(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA GPU here" in said(capsys, "-m", model, "-i", images, "-o", tmp_path / "out")


class Payload:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_checkpoint_with_code_is_refused(model, images, tmp_path, capsys):
    torch.save({"network_weights": Payload()}, model / "fold_1" / "checkpoint_final.pth")
    assert main(["predict", "-m", str(model), "-i", str(images), "-o", str(tmp_path / "out"), "-device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert "print to be unpickled, which is refused" in printed.err and "this ran" not in printed.out


class EndingPredictor(WholeFilesPredictor):
    """Predictor whose loop ends while it writes the case half, and in which, alone, the case named bad fails."""

    alone: list[tuple[str, str]] = []

    def __init__(self, **options):
        self.dataset_json = {"file_ending": ".nii.gz"}

    def initialize_from_trained_model_folder(self, *arguments):
        pass

    def predict_from_files(self, images, output, **options):
        write(Path(output, "a.nii.gz"), 2)
        write(Path(output, "half.nii.gz"), 2)
        Path(output, "half.nii.gz").write_bytes(Path(output, "half.nii.gz").read_bytes()[:-20])
        raise RuntimeError("Background workers died.")

    def predict_from_files_sequential(self, images, outputs, **options):
        self.alone.append((Path(images[0][0]).name, Path(outputs[0]).name))
        if outputs[0].endswith("bad"):
            raise ValueError("no voxels")
        write(Path(f"{outputs[0]}.nii.gz"), 2)


def write(file: Path, value: int) -> None:
    sitk.WriteImage(sitk.Image(5, 6, 7, sitk.sitkUInt8) + value, str(file))


@pytest.mark.parametrize(("again", "alone"), [([], ["bad", "c", "half"]), (["--c"], ["bad", "half"])])
def test_where_nnunet_s_loop_ends_the_others_go_on_one_by_one(
    model, images, tmp_path, capsys, monkeypatch, again, alone
):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.inference.predictor.SAM2_3dMedPredictor", EndingPredictor)
    monkeypatch.setattr(EndingPredictor, "alone", [])
    (images / "case_0000.nii.gz").unlink()
    for name in ("a", "bad", "c", "half"):
        sitk.WriteImage(sitk.Image(5, 6, 7, sitk.sitkInt16), str(images / f"{name}_0000.nii.gz"))
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "c.nii.gz", 1)
    where = ("-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert main(["predict", *map(str, where), *again]) == 2
    assert EndingPredictor.alone == [(f"{name}_0000.nii.gz", name) for name in alone]
    told = capsys.readouterr().err.splitlines()
    assert "nnU-Net's loop ended (RuntimeError: Background workers died" in told[0]
    assert f"predicting {len(alone)} of 4 cases one by one" in told[0]
    assert told[1].startswith("sam2_3dmed predict: bad: ValueError: no voxels (not foreseen")
    assert told[2] == "sam2_3dmed predict: 1 of 4 cases failed, for the reasons above: bad."
    written = {n: sitk.ReadImage(str(tmp_path / "out" / f"{n}.nii.gz"))[0, 0, 0] for n in ("a", "c", "half")}
    assert written == {"a": 2, "c": 1 if again else 2, "half": 2}


def test_a_case_that_lacks_a_channel_is_named(model, images, tmp_path, capsys):
    labels = {"background": 0, "organ": 1}
    content = {"file_ending": ".nii.gz", "labels": labels, "channel_names": {"0": "T1", "1": "T2"}}
    (model / "dataset.json").write_text(json.dumps(content))
    error = said(capsys, "-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert "the case case in" in error and "has the files case_0000.nii.gz, but the model was trained with 2" in error


@pytest.mark.parametrize("content", ["[]", "{}", '{"file_ending": 3}', "{"])
def test_a_dataset_json_of_a_model_that_is_damaged(model, images, tmp_path, capsys, content):
    (model / "dataset.json").write_text(content)
    error = said(capsys, "-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert error.startswith("sam2_3dmed predict: ") and "dataset.json" in error and error.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"dataset_name": "D", "plans_name": "P"}'])
def test_plans_of_a_model_that_are_damaged(model, images, tmp_path, capsys, content):
    (model / "plans.json").write_text(content)
    error = said(capsys, "-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert error.startswith("sam2_3dmed predict: ") and "plans.json" in error and error.count("\n") == 1


def test_a_checkpoint_that_lacks_what_nnunet_reads_of_it(model, images, tmp_path, capsys):
    error = said(capsys, "-m", model, "-i", images, "-o", tmp_path / "out", "-device", "cpu")
    assert f"the model in {model} cannot be loaded: KeyError: 'trainer_name'" in error and error.count("\n") == 1


# ---------------------------------------------------------------- options


class Recording:
    """Stand-in for a predictor, nnU-Net's or ours, that records its arguments."""

    calls: dict[str, tuple] = {}

    def __init__(self, **options):
        self.calls["made"] = options

    def initialize_from_trained_model_folder(
        self, model_training_output_dir, use_folds, checkpoint_name="checkpoint_final.pth"
    ):
        folds = sorted(str(fold) for fold in use_folds) if use_folds is not None else None
        self.calls["initialized"] = (str(model_training_output_dir), folds, checkpoint_name)

    def predict_from_files(self, images, output, **options):
        self.calls["predicted"] = (images, output, options)


NNUNET_S_DEFAULTS = {"tile_step_size": 0.5, "use_gaussian": True}


def recorded(monkeypatch, run) -> dict[str, tuple]:
    calls: dict[str, tuple] = {}
    monkeypatch.setattr(Recording, "calls", calls)
    run()
    calls["made"] = {**NNUNET_S_DEFAULTS, **calls["made"]}
    return calls


@pytest.mark.parametrize(
    "options",
    [
        "",
        "-step_size 0.75",
        "--disable_tta",
        "--not_on_device",
        "--verbose",
        "--disable_progress_bar",
        "-f 1",
        "-f 1 2",
        "-chk checkpoint_best.pth",
        "--save_probabilities",
        "--continue_prediction",
        "--c",
        "-npp 1 -nps 2",
        "-num_parts 3 -part_id 2",
        "-prev_stage_predictions earlier",
    ],
)
@pytest.mark.parametrize("by_folder", [True, False], ids=["-m", "-d"])
def test_options_reach_the_predictor_as_nnunet_s_own_command_passes_them(
    model, images, tmp_path, monkeypatch, options, by_folder
):
    from nnunetv2.inference import predict_from_raw_data

    root = tmp_path / "results" / "Dataset009_Spleen"
    root.mkdir(parents=True)
    model = model.rename(root / model.name)
    for fold in ("1", "2"):
        (model / f"fold_{fold}").mkdir(exist_ok=True)
        for checkpoint in ("checkpoint_final.pth", "checkpoint_best.pth"):
            (model / f"fold_{fold}" / checkpoint).touch()
    words = ["-i", str(images), "-o", str(tmp_path / "out"), *options.split(), "-device", "cpu"]
    if "-f" not in words:
        words += ["-f", "1", "2"]  # without -f, nnU-Net asks for all five folds and we for those that there are
    if by_folder and "-num_parts" in words:
        pytest.skip("nnUNetv2_predict_from_modelfolder has no parts")
    chosen = ["-d", "Dataset009_Spleen", "-c", "3d", "-tr", "SAM2_3dMedTrainer"]
    where = ["-m", str(model)] if by_folder else chosen
    for variable in ("nnUNet_results", "nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(variable, str(tmp_path / "results"))
    monkeypatch.setattr(predict_from_raw_data, "nnUNetPredictor", Recording)
    monkeypatch.setattr(
        predict_from_raw_data, "get_output_folder", lambda d, tr, p, c: str(root / f"{tr}__{p}__{c}"), raising=True
    )
    monkeypatch.setattr("nnunetv2_sam2_3dmed.inference.predictor.SAM2_3dMedPredictor", Recording)
    threads = torch.get_num_threads()
    entry = (
        predict_from_raw_data.predict_entry_point_modelfolder
        if by_folder
        else predict_from_raw_data.predict_entry_point
    )
    monkeypatch.setattr("sys.argv", ["nnUNetv2_predict", *where, *words])
    expected = recorded(monkeypatch, entry)
    ours = recorded(monkeypatch, lambda: main(["predict", *where, *words]))
    torch.set_num_threads(threads)
    assert ours["made"].pop("windows_at_once") is None
    assert ours == expected


def test_our_own_option_and_default_folds(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.inference.predictor.SAM2_3dMedPredictor", Recording)
    words = ["-m", str(model), "-i", str(images), "-o", str(tmp_path / "out"), "-device", "cpu", "--windows", "3"]
    threads = torch.get_num_threads()
    calls = recorded(monkeypatch, lambda: main(["predict", *words]))
    torch.set_num_threads(threads)
    assert calls["made"]["windows_at_once"] == 3
    assert calls["initialized"] == (str(model), ["1"], "checkpoint_final.pth")  # the one fold that is trained


def test_the_device_is_the_one_asked_for(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.inference.predictor.SAM2_3dMedPredictor", Recording)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    threads = torch.get_num_threads()
    for device in ("cuda", "cpu", "mps"):
        words = ["-m", str(model), "-i", str(images), "-o", str(tmp_path / "out"), "-device", device]
        calls = recorded(monkeypatch, lambda words=words: main(["predict", *words]))
        assert calls["made"]["device"] == torch.device(device)
    torch.set_num_threads(threads)
