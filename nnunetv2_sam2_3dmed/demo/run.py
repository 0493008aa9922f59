"""nnU-Net and SAM2-3dMed on the same small task, for the same minutes, from the data to the pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from nnunetv2_sam2_3dmed.demo.options import DemoOptions, training_cases
from nnunetv2_sam2_3dmed.demo.pipeline import child_environment, demo_steps
from nnunetv2_sam2_3dmed.demo.progress import read_training_logs
from nnunetv2_sam2_3dmed.demo.steps import StepRunner, write_json
from nnunetv2_sam2_3dmed.errors import UserError

OWNER_FILE = "sam2_3dmed_demo.json"


def run_demo(options: DemoOptions) -> None:
    """Runs the demo and says where its results are.

    Raises:
        UserError: the options do not fit, the output folder is somebody else's, or a step failed.
    """
    # the commands run inside the output folder
    data = None if options.data is None else options.data.absolute()
    options = replace(options, output=options.output.absolute(), data=data)
    output = options.output
    cases = training_cases(options)
    claim_folder(output)
    environment = child_environment(output)
    say = partial(print, flush=True)
    say(f"The commands below run in {output}, after")
    for name, value in environment.items():
        say(f"  export {name}={shlex.quote(value)}")

    runner = StepRunner(output, environment, say)
    if options.restart:
        runner.forget()
    try:
        seconds = runner.run(demo_steps(options, cases))
    except KeyboardInterrupt:
        raise UserError("interrupted; the same command continues where it stopped.") from None
    timings = method_timings(options, seconds)
    write_json(output / "timings.json", {"device": options.device, "methods": timings, "step_seconds": seconds})
    say("\n" + timing_table(timings))
    say(farewell(output))


def claim_folder(output: Path) -> None:
    """Makes the output folder, or checks that it is an earlier demo's, since steps delete what they made.

    Raises:
        UserError: the folder has other things in it.
    """
    in_use = output.exists() and (not output.is_dir() or any(output.iterdir()))
    if in_use and not (output / OWNER_FILE).is_file():
        raise UserError(f"{output} is not empty and not from an earlier demo: name another folder with -o.")
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / OWNER_FILE, {"made_by": "sam2_3dmed demo"})


def method_timings(options: DemoOptions, seconds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What each method took, in seconds; commands are timed from start to end."""
    timings = {}
    for method in options.methods:
        log = read_training_logs(options.output / method.results(options.dataset) / "fold_0")
        timings[method.name] = {
            "epochs": log.epochs,
            "epochs_seconds": round(log.seconds, 2),
            "train_command_seconds": round(seconds[f"train_{method.name}"], 2),
            "predict_command_seconds": round(seconds[f"predict_{method.name}"], 2),
            "predicted_cases": options.held_out,
        }
    return timings


def timing_table(timings: Mapping[str, Mapping[str, float]]) -> str:
    """The timings as lines of text."""
    lines = [f"{'seconds':<12}{'epochs':>10}{'train command':>16}{'predict command':>18}"]
    for name, row in timings.items():
        lines.append(
            f"{name:<12}{row['epochs_seconds']:>10.0f}{row['train_command_seconds']:>16.0f}"
            f"{row['predict_command_seconds']:>18.0f}"
        )
    lines.append("(a command's time includes starting up and, for training, the final validation)")
    return "\n".join(lines)


def farewell(output: Path) -> str:
    """Where the results are, and what comes next."""
    return f"""
Pictures:   {output / "pictures"}
Comparison: {output / "comparison"}
Timings:    {output / "timings.json"}

Next, on a dataset of your own (here number 9), with nnU-Net's three folders set as you have them,
after `eval "$(sam2_3dmed env)"` and `sam2_3dmed weights sam2.1_hiera_tiny`:
  nnUNetv2_plan_and_preprocess -d 9 -c 3d_fullres
  sam2_3dmed plan -d 9
  nnUNetv2_train 9 3d 0 -tr SAM2_3dMedTrainer"""
