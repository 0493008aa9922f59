"""Rounds of annotation on MSD hippocampus from end to end, by simulated annotators, with two fine-tunings.

    python benchmarks/annotation_rounds.py --data nnUNet_raw/Dataset004_Hippocampus --work FOLDER -device cpu \
        --minutes 20 --epochs 1 2 --image-size 96 --patch-size 56 40 --slices 6 --batch-size 4
    python benchmarks/annotation_rounds.py --data nnUNet_raw/Dataset004_Hippocampus --work FOLDER -device cuda

A first model is trained on few expert cases (or given with --model). In each round, the true box on the middle slice
of each object prompts the model (annotate outline); the annotator makes the 2D mask the true one, and names the true
first and last slice; the model propagates (annotate rank); the annotator makes the volume the true one (annotate take);
and the model is fine-tuned (annotate finetune). As controls, the first model is fine-tuned for as many epochs without
new cases. All models are then measured on cases that no round and no training has seen; cases of a subject, here
neighbours by number, are never apart.

No person was timed: the seconds are those of a stated annotator, who draws a box in 5 s, looks at a slice for 2 s,
and corrects 20 voxels per second. The machine's seconds are measured.

Everything is in FOLDER, with nnU-Net folders of its own. The same command continues after an interruption at any stage;
one with other settings is refused. Writes benchmarks/results/NAME.json, .md, .png, and NAME_times.md and .png, after
each round.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from equal_time import RESULTS, machine
from prompted_runs import CONFIGURATION, FINAL, RANDOM_WEIGHTS, plan_options
from rounds_parts import annotator, report
from rounds_parts.dataset import SEED, Shares, make_datasets
from rounds_parts.steps import Steps
from workplace import keep_to

from nnunetv2_sam2_3dmed.annotation.finetuning import SUMMARY, starting_point
from nnunetv2_sam2_3dmed.files import copy_file
from nnunetv2_sam2_3dmed.interactive.model import model_file
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path
from nnunetv2_sam2_3dmed.prompt_training.finetuning import FILE as SETTINGS

PROTOCOLS = ("box", "1_mask_within")
DATASET, TEST = 104, 105


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return all that the models and scores depend on, but for the data."""
    return {
        "shares": vars(args.shares),
        "seed_of_shares": SEED,
        "device": args.device,
        "minutes": args.minutes,
        "model": args.model,
        "trainer": args.trainer,
        "finetune_trainer": args.finetune_trainer,
        "epochs": args.epochs,
        "plan": plan_options(args),
    }


class Rounds:
    """All stages, in one folder.

    Args:
        args: options of the script.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.work: Path = args.work.resolve()
        # first, since the cases of a test with other shares may have been trained on
        keep_to(self.work / "settings.json", settings_of(args), option="--work")
        folders = {name: self.work / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        for name, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(folder)
        os.environ[EXT_TRAINER] = search_path()
        self.results = folders["nnUNet_results"]
        self.run = Steps(self.work / "done")
        self.data = make_datasets(args.data, folders["nnUNet_raw"], self.work, (DATASET, TEST), args.shares)

    def __call__(self) -> None:
        self._prepare()
        self._first_model()
        for number, epochs in enumerate(self.args.epochs, start=1):
            self._annotate(number)
            self._finetune(number, epochs)
            self._control(number, epochs)
            if number == 1:
                self._test(0)
            self._test(number)
            self._test(number, control=True)
            name = f"annotation_rounds_hippocampus_{self.args.device}"
            report.write(self, self.args.results, name, machine(self.args.device), number)

    def folder(self, number: int) -> Path:
        """Return the folder of a round, counted from 1."""
        return self.work / f"round_{number}"

    def tested(self, number: int, control: bool = False) -> Path:
        """Return the folder with the scores of the model after so many fine-tunings, with or without new cases."""
        return self.work / f"test_{'control_' if control else ''}{number}"

    def model(self, number: int, control: bool = False) -> str:
        """Return the model after so many fine-tunings, with or without new cases."""
        if number == 0 and self.args.model is not None:
            return self.args.model
        return str(self.work / "models" / f"{'control' if control and number else 'model'}_{number}.pth")

    def _prepare(self) -> None:
        self.run("preprocess", "nnUNetv2_plan_and_preprocess", "-d", str(DATASET), "-c", "3d_fullres")
        self.run("plan", "sam2_3dmed", "plan", "-d", str(DATASET), *plan_options(self.args))
        self.data.write_folds(Path(os.environ["nnUNet_preprocessed"]))

    def _first_model(self) -> None:
        if self.args.model is not None:
            return
        trainer = self.args.trainer or f"{RANDOM_WEIGHTS}_{self.args.minutes}minutes"
        fold = self._fold(trainer)
        command = ["nnUNetv2_train", str(DATASET), CONFIGURATION, "0", "-tr", trainer, "-device", self.args.device]
        self.run("train", *command, resumed=[*command, "--c"] if fold.exists() else [])
        self._keep(fold, 0)

    def _annotate(self, number: int) -> None:
        folder, images, truth = self.folder(number), self.data.images(number), self.data.truth(number)
        model = ("--model", self.model(number - 1), "-device", self.args.device)
        common = ("-d", str(DATASET), "--round", str(folder))
        self.run(
            f"outline_{number}",
            *("sam2_3dmed", "annotate", "outline", *common, "--predictions", str(truth), "-i", str(images), *model),
        )
        revised, corrected = self.work / f"revised_{number}", self.work / f"corrected_{number}"
        annotator.revise_outlines(folder, truth, revised, by_hand=number == 1)
        table = str(folder / "outlines.csv")
        self.run(
            f"rank_{number}",
            *("sam2_3dmed", "annotate", "rank", *common, "--prompts", table, "--revised", str(revised), *model),
        )
        annotator.revise_volumes(folder, truth, corrected)
        cases = sorted(file.name.removesuffix(".nii.gz") for file in truth.glob("[!.]*.nii.gz"))
        self.run(
            f"take_{number}",
            *("sam2_3dmed", "annotate", "take", *common, "--corrected", str(corrected), "--confirmed", *cases),
            *("--partial", "--annotator", "simulated"),
        )

    def _finetune(self, number: int, epochs: int) -> None:
        """Fine-tune for a round; an earlier one was put aside when this one began."""
        trainer = self.args.finetune_trainer
        fold = self._fold(trainer)
        before = len(list(fold.parent.glob(f"round_*_{fold.name}")))
        begun = fold.exists() and before == number - 1
        ended = begun and (fold / FINAL).is_file() and (fold / SUMMARY).is_file()
        command = ["sam2_3dmed", "annotate", "finetune", "-d", str(DATASET), "-c", CONFIGURATION, "-f", "0"]
        command += ["-tr", trainer, "-device", self.args.device]
        start = ("--model", self.model(number - 1), "--epochs", str(epochs))
        self.run(f"finetune_{number}", *command, *start, resumed=[*command, "--c"] if begun else [], ended=ended)
        self._keep(fold, number)

    def _control(self, number: int, epochs: int) -> None:
        """Fine-tune for as many epochs as a round, in a fold with the first cases alone."""
        trainer = self.args.finetune_trainer
        fold = self._fold(trainer, number)
        if not (fold / SETTINGS).is_file():
            starting_point(model_file(self.model(number - 1, control=True)).resolve(), epochs).write(fold)
        begun = any(fold.glob("checkpoint_*.pth"))
        command = ["nnUNetv2_train", str(DATASET), CONFIGURATION, str(number), "-tr", trainer]
        command += ["-device", self.args.device]
        self.run(f"control_{number}", *command, resumed=[*command, "--c"] if begun else [])
        self._keep(fold, number, control=True)

    def _test(self, number: int, control: bool = False) -> None:
        output = self.tested(number, control)
        self.run(
            output.name,
            *("sam2_3dmed", "prompt-benchmark", "-d", str(TEST), "-f", "all", "-o", str(output)),
            *("--model", self.model(number, control), "-device", self.args.device, "--protocols", *PROTOCOLS),
        )

    def _fold(self, trainer: str, number: int = 0) -> Path:
        return self.results / self.data.name / f"{trainer}__nnUNetPlans__{CONFIGURATION}" / f"fold_{number}"

    def _keep(self, fold: Path, number: int, control: bool = False) -> None:
        """Keep a model where the next fine-tuning does not rename it."""
        model = Path(self.model(number, control))
        if not model.is_file():
            copy_file(fold / FINAL, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Dataset004_Hippocampus in nnU-Net's raw format")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--minutes", type=int, default=20, help="of the first training (default: %(default)s)")
    parser.add_argument("--model", help="first model, instead of training one")
    parser.add_argument("--trainer", help="of the first model, instead of one with --minutes")
    parser.add_argument(
        "--finetune-trainer",
        help="default: SAM2_PromptTrainer_finetune with --model, otherwise SAM2_PromptTrainer_finetune_tuned",
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[6, 15], help="of the fine-tunings (default: 6 15, MedSAM2's)"
    )
    parser.add_argument(
        "--shares",
        type=int,
        nargs=4,
        default=(16, 8, 30, 60),
        metavar=("TRAIN", "VAL", "ROUND", "TEST"),
        help="cases for the first training and its validation, of each round, and for the test (default: %(default)s)",
    )
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs=2)
    parser.add_argument("--slices", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--note", action="append", default=[], help="remark about this run for readers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args()
    if args.finetune_trainer is None:
        args.finetune_trainer = f"SAM2_PromptTrainer_finetune{'_tuned' if args.model is None else ''}"
    args.shares = Shares(*args.shares, rounds=len(args.epochs))
    Rounds(args)()


if __name__ == "__main__":
    main()
