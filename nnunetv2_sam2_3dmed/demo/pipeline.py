"""The demo's commands, in order, each as a user would type it in the demo's folder."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_sam2_3dmed.demo.options import DemoOptions, Method
from nnunetv2_sam2_3dmed.demo.progress import FileCount, TrainingTime
from nnunetv2_sam2_3dmed.demo.steps import Step
from nnunetv2_sam2_3dmed.nnunet.environment import NNUNET_FOLDERS, trainers_folder

RANDOM_WEIGHTS_NOTE = (
    "(starts from random weights; with those of SAM 2, see `sam2_3dmed weights`, take -tr SAM2_3dMedTrainer)"
)


def child_environment(output: Path) -> dict[str, str]:
    """nnU-Net's variables for the commands: its folders inside ``output``, our trainers, two processes."""
    return {
        **{name: str(output / name) for name in NNUNET_FOLDERS},
        "nnUNet_extTrainer": trainers_folder(),
        "nnUNet_def_n_proc": "2",
        # each process that predicting starts has to import torch first, which is dear on few cores
        "nnUNet_npp": "1",
        "nnUNet_nps": "1",
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        "PYTHONUNBUFFERED": "1",
    }


def demo_steps(options: DemoOptions, cases: int) -> list[Step]:
    """All steps of the demo.

    Args:
        options: with absolute paths.
        cases: number of training cases.
    """
    baseline, ours = options.methods
    return [
        _data_step(options, cases),
        *_preparation_steps(options, cases),
        _training_step(options, baseline),
        _training_step(options, ours, RANDOM_WEIGHTS_NOTE),
        _prediction_step(options, baseline),
        _prediction_step(options, ours),
        *_result_steps(options),
    ]


def _data_step(options: DemoOptions, cases: int) -> Step:
    if options.data is None:
        title = "make synthetic CT data"
        module, source = "synthetic", ["data", "--test-cases", str(options.held_out)]
    else:
        title = f"take {options.task}"
        module, source = "holdout", ["data", "--data", str(options.data), "--held-out", str(options.held_out)]
    task = f"data/{options.task}"
    return Step(
        "data",
        f"{title}: {cases} cases to train on, {options.held_out} held out",
        ("python", "-m", f"nnunetv2_sam2_3dmed.demo.{module}", *source, "--cases", str(cases)),
        clears=(task,),
        watch=FileCount(options.output / task, "images*/*.nii.gz", cases + options.held_out),
    )


def _preparation_steps(options: DemoOptions, cases: int) -> list[Step]:
    number, raw = str(options.dataset_id), options.output / "nnUNet_raw" / options.dataset
    preprocessed = f"nnUNet_preprocessed/{options.dataset}"
    return [
        Step(
            "convert",
            "convert to nnU-Net's format",
            ("nnUNetv2_convert_MSD_dataset", "-i", f"data/{options.task}"),
            # nnU-Net refuses a number that any of its folders knows
            clears=tuple(f"{folder}/Dataset{options.dataset_id:03d}_*" for folder in NNUNET_FOLDERS),
            watch=FileCount(raw, "images*/*_0000.nii.gz", cases + options.held_out),
        ),
        Step(
            "preprocess",
            "nnU-Net's fingerprint, plans and preprocessing (both methods train on these data)",
            ("nnUNetv2_plan_and_preprocess", "-d", number, "-c", "3d_fullres") + ("-npfp", "2", "-np", "2"),
            clears=(preprocessed,),
            watch=FileCount(options.output / preprocessed / "nnUNetPlans_3d_fullres", "*.pkl", cases),
        ),
        Step(
            "plan",
            "add the configuration `3d` of SAM2-3dMed to nnU-Net's plans",
            ("sam2_3dmed", "plan", "-d", number, *options.plan_options),
        ),
    ]


def _training_step(options: DemoOptions, method: Method, note: str = "") -> Step:
    results = method.results(options.dataset)
    return Step(
        f"train_{method.name}",
        f"train {method.name} for {options.minutes} min, then nnU-Net's validation of fold 0",
        ("nnUNetv2_train", str(options.dataset_id), method.configuration, "0")
        + ("-tr", method.trainer, "-device", options.device),
        clears=(results,),
        resume=("--c",),
        watch=TrainingTime(options.output / results / "fold_0", options.minutes),
        note=note,
    )


def _prediction_step(options: DemoOptions, method: Method) -> Step:
    return Step(
        f"predict_{method.name}",
        f"predict the held-out cases with {method.name}",
        ("nnUNetv2_predict", "-d", str(options.dataset_id), "-c", method.configuration)
        + ("-tr", method.trainer, "-f", "0", "-i", f"nnUNet_raw/{options.dataset}/imagesTs")
        + ("-o", method.predictions, "-device", options.device),
        clears=(method.predictions,),
        watch=FileCount(options.output / method.predictions, "*.nii.gz", options.held_out),
    )


def _result_steps(options: DemoOptions) -> list[Step]:
    truth = f"data/{options.task}/labelsTs"
    predictions = tuple(f"{method.name}={method.predictions}" for method in options.methods)
    return [
        Step(
            "compare",
            f"compare on the {options.held_out} held-out cases",
            ("sam2_3dmed", "compare", "-d", str(options.dataset_id), "--gt", truth)
            + ("-m", *predictions, "-o", "comparison"),
            clears=("comparison",),
            prints=True,
        ),
        Step(
            "pictures",
            "draw the held-out cases",
            ("python", "-m", "nnunetv2_sam2_3dmed.demo.pictures")
            + ("--dataset", f"nnUNet_raw/{options.dataset}", "--gt", truth)
            + ("-m", *predictions, "-o", "pictures"),
            clears=("pictures",),
            watch=FileCount(options.output / "pictures", "*.png", options.held_out),
        ),
    ]
