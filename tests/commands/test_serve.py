"""``sam2_3dmed serve``, as a process of its own and as the command line runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from importlib import util

import httpx
import pytest
import torch

from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.commands import serve
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server import app
from tests.annotation.conftest import DATASET, make_folders
from tests.interactive.reference import TINY, random_weights

MODEL = ["--image-size", "64", "-device", "cpu", "--precision", "float32"]


def test_a_server_listens_at_both_ports_and_ends_when_interrupted(tmp_path):
    weights = tmp_path / f"{TINY}.pt"
    torch.save({"model": random_weights()}, weights)
    with socket.create_server(("127.0.0.1", 0)) as free:
        second = free.getsockname()[1]
    command = [sys.executable, "-m", "nnunetv2_sam2_3dmed.commands.main", "serve", "--model", str(weights), *MODEL]
    process = subprocess.Popen(
        [*command, "--port", "0", "--itksnap-port", str(second), "--sessions", "1", "--budget", "5"],
        env=os.environ | {serve.KEY_VARIABLE: "sesame"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline().strip() for _ in range(4)]
        urls = [line.removeprefix("listening at ") for line in lines[:2]]
        assert urls[1] == f"http://127.0.0.1:{second}" and lines[3].endswith("press Ctrl+C to end")
        assert lines[2] == f"model {weights.name}, images of 64 pixels, cpu"
        with httpx.Client(headers={"Authorization": "Bearer sesame"}, trust_env=False, timeout=60) as http:
            assert httpx.get(f"{urls[0]}/capabilities", trust_env=False, timeout=60).status_code == 401
            # also without the key, and so without its folder
            assert httpx.get(f"{urls[0]}/healthz", trust_env=False, timeout=60).json()["model"] == weights.name
            assert http.post(f"{urls[0]}/claim").json()["max_sessions"] == 1
            # one server behind both ports
            assert http.get(f"{urls[1]}/start_session").status_code == 503
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "other machines can reach the host 0.0.0.0: give a key"),
        (["--host", "0.0.0.0", "--key", ""], "give a key"),
        (["--host", "203.0.113.7", "--key", "sesame"], "cannot listen at 203.0.113.7"),
        (["--host", "no such name", "--key", "sesame"], "cannot listen at no such name"),
        (["--port", "99999"], "port is 99999"),
        (["--sessions", "0"], "sessions is 0"),
        (["--memory", "inf"], "--memory is inf"),
        (["--memory", "0"], "memory is 0 bytes"),
        (["--largest-image", "-1"], "largest image is"),
        (["--budget", "-1"], "budget is -1"),
        (["--folder", "nowhere"], "no folder nowhere"),
        (["--round", "nowhere"], "there is no nowhere/round.json"),
        (["--image-size", "65"], "--image-size is 65"),
        (["--model", "no_such_model", "--port", "0"], "model is 'no_such_model'"),
        (["-device", "tpu", "--port", "0"], "device is 'tpu'"),
    ],
)
def test_mistakes_are_one_sentence(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(serve.KEY_VARIABLE, raising=False)
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_answers_are_sent_at_once():
    """Not held back until the client has acknowledged what was sent before, 40 ms later."""
    found = []

    async def accept() -> None:
        sockets = serve.listen("127.0.0.1", 0)
        accepted = asyncio.Event()

        def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            accepted.set()

        async with await asyncio.start_server(note, sock=sockets[0]):
            _, writer = await asyncio.open_connection(*sockets[0].getsockname())
            await asyncio.wait_for(accepted.wait(), 10)
            writer.close()

    asyncio.run(accept())
    assert found[0] != 0


def test_a_port_in_use(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
        assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err
        # the first port is free again if the second one is taken
        with socket.create_server(("127.0.0.1", 0)) as free:
            other = free.getsockname()[1]
        assert main(["serve", "--port", str(other), "--itksnap-port", str(port)]) == 2
        socket.create_server(("127.0.0.1", other)).close()


def test_without_the_extra(capsys, monkeypatch):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "fastapi" else found(name, *more))
    assert main(["serve"]) == 2
    assert "needs fastapi, not installed here: pip install 'nnunetv2-sam2-3dmed[server]'" in capsys.readouterr().err


def test_a_round_is_opened_with_the_labels_of_its_dataset(capsys, monkeypatch, tmp_path):
    make_folders(tmp_path, monkeypatch)
    made_by = {"dataset": DATASET, "file_ending": ".nii.gz", "model": "m", "model_sha256": "abc"}
    Round(tmp_path / "lesions", made_by).save()
    given = []

    def create(settings):
        given.append(settings)
        raise UserError("that is all.")

    monkeypatch.setattr(app, "create_app", create)
    words = ["serve", "--round", str(tmp_path / "lesions"), "--port", "0"]
    assert main(words) == 2 and "that is all" in capsys.readouterr().err
    assert given[0].round.folder == tmp_path / "lesions" and given[0].round.objects == {1: "organ", 3: "lesion"}
    # of a dataset that is not here
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_results"))
    assert main(words) == 2 and DATASET in capsys.readouterr().err
