import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.commands.env import environment
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.nnunet import folders as nnunet_folders
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder


def test_the_trainers_folder_holds_the_trainers():
    assert (Path(trainers_folder()) / "sam2_3dmed_trainers.py").is_file()


def test_folders_that_are_set_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", "/data/raw")
    monkeypatch.delenv("nnUNet_results", raising=False)
    exports = environment(tmp_path)
    assert "nnUNet_raw" not in exports
    assert exports["nnUNet_results"] == str(tmp_path.resolve() / "nnUNet_results")


def test_other_external_trainers_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(["/mine", trainers_folder()]))
    assert environment(tmp_path)["nnUNet_extTrainer"].split(os.pathsep) == [trainers_folder(), "/mine"]


def test_a_shell_takes_the_lines(tmp_path):
    base = tmp_path / "a folder; with 'quotes'"
    command = [sys.executable, "-m", "nnunetv2_sam2_3dmed.commands.main", "env", "--base", str(base)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("nnUNet")}
    lines = subprocess.run(command, capture_output=True, text=True, check=True, env=clean).stdout
    shell = subprocess.run(["sh", "-c", f'{lines}\nprintf %s "$nnUNet_raw"'], capture_output=True, text=True)
    assert shell.stdout == str(base.resolve() / "nnUNet_raw")


def test_env_does_not_wait_for_torch():
    code = (
        "import sys; from nnunetv2_sam2_3dmed.commands.main import main\n"
        "main(['env']); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_an_old_nnunet_is_named(monkeypatch, capsys):
    monkeypatch.setattr(nnunet_folders, "version", lambda _: "2.7.1")
    assert main(["env"]) == 2
    assert "nnunetv2 is 2.7.1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["env", "plan", "weights", "demo", "compare"])
def test_every_subcommand_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 300
