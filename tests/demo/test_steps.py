"""Steps are run once, again when they change, and end with an explanation when they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.demo.steps import Step, StepRunner, resolve_command
from nnunetv2_sam2_3dmed.errors import UserError


def note(name: str, code: str = "", **options) -> Step:
    """A step that appends its name and arguments to runs.txt, then runs ``code``."""
    script = f"import sys; open('runs.txt', 'a').write(' '.join(['{name}', *sys.argv[1:]]) + '\\n'); {code}"
    return Step(name, f"note {name}", ("python", "-c", script), **options)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def runner(tmp_path: Path, said: list[str]) -> StepRunner:
    return StepRunner(tmp_path / "out", {"DEMO_VALUE": "from the runner"}, said.append)


def runs(runner: StepRunner) -> list[str]:
    return (runner.folder / "runs.txt").read_text().splitlines()


def test_finished_steps_are_skipped(runner, said):
    steps = [note("first"), note("second")]
    seconds = runner.run(steps)
    assert runs(runner) == ["first", "second"]
    said.clear()
    again = runner.run(steps)
    assert runs(runner) == ["first", "second"]
    assert again == pytest.approx(seconds, abs=0.01)
    assert sum("done before" in text for text in said) == 2


def test_another_command_line_redoes_the_step_and_all_after(runner):
    runner.run([note("first"), note("second"), note("third")])
    runner.run([note("first"), note("second", "pass"), note("third")])
    assert runs(runner) == ["first", "second", "third", "second", "third"]


def test_steps_after_a_redone_one_stay_undone_if_it_fails(runner):
    runner.run([note("first"), note("second")])
    with pytest.raises(UserError):
        runner.run([note("first", "sys.exit(1)"), note("second")])
    runner.run([note("first"), note("second")])
    assert runs(runner) == ["first", "second", "first", "first", "second"]


def test_forgetting_runs_everything_again(runner):
    runner.run([note("first")])
    runner.forget()
    runner.run([note("first")])
    assert runs(runner) == ["first", "first"]


def test_a_broken_marker_counts_as_none(runner):
    runner.run([note("first")])
    (runner.folder / "steps" / "01_first.json").write_text('{"argv": [')
    runner.run([note("first")])
    assert runs(runner) == ["first", "first"]


def test_a_failure_stops_and_shows_the_end_of_the_log(runner, capsys):
    code = "[print('line', k) for k in range(40)]; sys.exit('disk is full')"
    with pytest.raises(UserError) as caught:
        runner.run([note("write", code), note("never")])
    message = str(caught.value)
    assert "write failed with exit status 1" in message
    assert str(runner.folder / "logs" / "01_write.log") in message
    shown = capsys.readouterr().err
    assert "line 39" in shown and "disk is full" in shown and "line 2\n" not in shown
    assert runs(runner) == ["write"]


INTERRUPTED = "sys.exit(0 if '--c' in sys.argv else 1)"


def test_an_interrupted_step_is_resumed(runner):
    step = note("train", INTERRUPTED, resume=("--c",), clears=("checkpoints",))
    with pytest.raises(UserError):
        runner.run([step])
    (runner.folder / "checkpoints").mkdir()
    marker = runner.folder / "steps" / "01_train.json"
    state = json.loads(marker.read_text())
    assert state["done"] is False
    marker.write_text(json.dumps({**state, "seconds": 1000}))

    seconds = runner.run([step])["train"]
    assert runs(runner) == ["train", "train --c"]
    assert (runner.folder / "checkpoints").exists()  # what resuming needs
    assert 1000 < seconds < 1100  # the interrupted run counts
    runner.run([step])
    assert len(runs(runner)) == 2


def test_an_interrupted_step_with_other_options_starts_anew(runner):
    with pytest.raises(UserError):
        runner.run([note("train", INTERRUPTED, resume=("--c",), clears=("checkpoints",))])
    (runner.folder / "checkpoints").mkdir()
    runner.run([note("train", resume=("--c",), clears=("checkpoints",))])
    assert runs(runner) == ["train", "train"]
    assert not (runner.folder / "checkpoints").exists()  # or nnU-Net would continue from them later


def test_a_step_clears_what_it_made_and_nothing_else(runner, tmp_path):
    outside = tmp_path / "image.nii.gz"
    outside.write_text("the user's")
    for name in ("Dataset090_A", "Dataset090_B", "Dataset091_A"):
        (runner.folder / "raw" / name).mkdir(parents=True)
    (runner.folder / "raw" / "Dataset090_A" / "linked.nii.gz").symlink_to(outside)
    (runner.folder / "raw" / "Dataset090_link").symlink_to(tmp_path)
    runner.run([note("convert", clears=("raw/Dataset090_*",))])
    assert [path.name for path in (runner.folder / "raw").iterdir()] == ["Dataset091_A"]
    assert outside.read_text() == "the user's"


def test_commands_get_the_folder_and_the_environment(runner):
    code = "import os; print(os.getcwd(), os.environ['DEMO_VALUE'], 'PATH' in os.environ)"
    runner.run([note("where", code)])
    log = (runner.folder / "logs" / "01_where.log").read_text()
    assert log.strip() == f"{runner.folder} from the runner True"


def test_a_printing_step_shows_its_standard_output_every_time(runner, said):
    step = note("table", "print('| Dice |'); print('a warning', file=sys.stderr)", prints=True)
    for _ in range(2):
        said.clear()
        runner.run([step])
        assert said[-1].strip() == "| Dice |"
    assert (runner.folder / "logs" / "01_table.log").read_text() == "a warning\n"


def test_the_command_is_shown_as_it_would_be_typed(runner, said):
    runner.run([Step("say", "say it", ("python", "-c", "print('a b')"), note="a remark")])
    assert said[0] == "\n[1/1] say it\n  $ python -c 'print('\"'\"'a b'\"'\"')'"
    assert said[1].strip() == "a remark"


def test_commands_come_from_beside_this_python():
    assert resolve_command("python") == [sys.executable]
    assert resolve_command("nnUNetv2_train") == [str(Path(sys.executable).parent / "nnUNetv2_train")]
    assert Path(resolve_command("ls")[0]).name == "ls"  # from PATH
    with pytest.raises(UserError, match="no_such_command is not installed"):
        resolve_command("no_such_command")
