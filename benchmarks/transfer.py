"""Few training cases: weights that know the structure against random weights and nnU-Net, for the same minutes each.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/transfer.py -o FOLDER --minutes 4 --pretrain-minutes 45 -device cpu

The paper's claim, that pretrained weights pay where labels are few, in miniature. Subjects of MSD hippocampus (cases
2k - 1 and 2k) are halved. On one half a promptable model learns from random weights (``SAM2_PromptTrainer``, no labels
of classes: it segments what a prompt marks), is exported in SAM 2's official format and installed. On 8, 16 and 32
cases of the other half, three draws each, train:

- good weights: ``SAM2_3dMedTrainer`` from the exported file, trunk frozen, 5e-5, as the paper trains it from SAM 2's;
- random weights: ``SAM2_3dMedTrainer_noPretrain_tuned``;
- nnU-Net.

All are validated on the same cases of the second half, which are in no draw. Runs stock commands in a copy of nnU-Net's
folders under FOLDER, skips what is there already (a training goes on with --c), and writes
benchmarks/results/NAME.json, NAME.md and docs/images/transfer.png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from equal_time import DATASET, RESULTS, machine

from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.nnunet.folds import PAIRS, group_cases

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "transfer.png"
TRAINERS = Path(__file__).parent / "trainers"
SIZES, DRAWS = (8, 16, 32), (0, 1, 2)
TEST_SUBJECTS, PROBES = 16, 6  # whose cases all methods are scored on; and for the pretraining's pseudo Dice
SIZE_OF = {"good weights": 96, "random weights": 64}  # random weights have refined masks, which 64 pixels suffice for
CONFIGURATIONS = {
    "3d_prompts": ["--slices", "8", "--image-size", "96", "--batch-size", "4"],
    "3d_good": ["--slices", "6", "--image-size", str(SIZE_OF["good weights"]), "--batch-size", "8"],
    "3d_random": ["--slices", "6", "--image-size", str(SIZE_OF["random weights"]), "--batch-size", "8"],
}


def folds_of(cases: list[str]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds: 0 is the pretraining, then one for each number of cases and draw."""
    subjects = list(group_cases(cases, PAIRS).values())
    random.Random(0).shuffle(subjects)
    half = len(subjects) // 2
    first, second = subjects[:half], subjects[half:]
    test, drawn_from = second[:TEST_SUBJECTS], second[TEST_SUBJECTS:]
    folds = [{"train": flat(first[PROBES:]), "val": flat(first[:PROBES])}]
    for draw in DRAWS:
        order = drawn_from.copy()
        random.Random(draw + 1).shuffle(order)
        # the smaller sets are parts of the larger ones; subjects come whole
        folds += [{"train": flat(order)[:size], "val": flat(test)} for size in SIZES]
    return folds


def flat(subjects: list[list[str]]) -> list[str]:
    return [case for subject in subjects for case in subject]


def fold_number(size: int, draw: int) -> int:
    return 1 + DRAWS.index(draw) * len(SIZES) + SIZES.index(size)


class Workplace:
    """nnU-Net's folders of this experiment, and its commands.

    Args:
        folder: of all that is written but the results.
        device: of the trainings.
    """

    def __init__(self, folder: Path, device: str):
        self.folder, self.device = folder, device
        self.commands: list[str] = []
        self.environment = {
            **os.environ,
            "nnUNet_preprocessed": str(folder / "preprocessed"),
            "nnUNet_results": str(folder / "results"),
            "SAM2_3dMed_weights": str(folder / "weights"),
            "nnUNet_extTrainer": os.pathsep.join([os.environ["nnUNet_extTrainer"], str(TRAINERS)]),
        }

    def prepare(self) -> None:
        """Link the preprocessed cases, and write folds and plans beside the links."""
        source, own = nnunet_folder("nnUNet_preprocessed") / DATASET, self.folder / "preprocessed" / DATASET
        own.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            linked = file.is_dir() or file.suffix != ".json"
            if linked and not (own / file.name).exists():
                (own / file.name).symlink_to(file)
            elif not linked and file.name != "splits_final.json" and not (own / file.name).exists():
                (own / file.name).write_bytes(file.read_bytes())
        cases = sorted(
            file.name.removesuffix("_seg.b2nd") for file in (own / "nnUNetPlans_3d_fullres").glob("*_seg.b2nd")
        )
        (own / "splits_final.json").write_text(json.dumps(folds_of(cases), indent=1))
        for name, options in CONFIGURATIONS.items():
            self("sam2_3dmed", "plan", "-d", "4", "--patch-size", "56", "40", *options, "--name", name)

    def __call__(self, *command: str, go_on: bool = False) -> None:
        self.commands.append(shlex.join(command).replace(str(self.folder), "FOLDER"))
        print("$", shlex.join(command), flush=True)
        subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:], *(["--c"] if go_on else [])],
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def train(self, trainer: str, configuration: str, fold: int) -> Path:
        """Train to the end, unless that was done; return the fold's folder."""
        results = self.folder / "results" / DATASET / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"
        if not (results / "validation" / "summary.json").exists():
            command = ("nnUNetv2_train", "4", configuration, str(fold), "-tr", trainer, "-device", self.device)
            self(*command, go_on=results.exists())
        return results


def dice(fold: Path) -> float:
    """nnU-Net's mean validation Dice of the foreground."""
    return float(json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"])


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """A row for each number of cases: Dice of the methods, mean and standard deviation over the draws."""
    lines = [f"| training cases | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    for size in SIZES:
        cells = [f"{mean(by[str(size)]):.3f} ± {stdev(by[str(size)]):.3f}" for by in results.values()]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_picture(results: dict[str, dict[str, list[float]]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for number, (method, by_size) in enumerate(results.items()):
        axis.plot(SIZES, [mean(by_size[str(size)]) for size in SIZES], color=f"C{number}", marker="o", label=method)
        for size in SIZES:
            values = by_size[str(size)]
            axis.plot([size] * len(values), values, color=f"C{number}", marker=".", linestyle="", alpha=0.5)
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.set(xlabel="training cases", ylabel="Dice of cases that were not trained on")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=int, required=True, help="of each training on few cases")
    parser.add_argument("--pretrain-minutes", type=int, required=True)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--name", help="of the result files")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    args = parser.parse_args()

    work = Workplace(args.output.resolve(), args.device)
    work.prepare()
    pretrained = work.train(f"UnfittedPromptTrainer_{args.pretrain_minutes}minutes", "3d_prompts", 0)
    exported = work.folder / "pretrained.pt"
    if not exported.exists():
        work("sam2_3dmed", "weights", str(pretrained / "checkpoint_final.pth"), "--export", str(exported))
        work("sam2_3dmed", "weights", str(exported), "--as", "sam2.1_hiera_tiny", "--force")
    methods = {
        "good weights": (f"SAM2_3dMedTrainer_{args.minutes}minutes", "3d_good"),
        "random weights": (f"SAM2_3dMedTrainer_noPretrain_tuned_{args.minutes}minutes", "3d_random"),
        "nnU-Net": (f"nnUNetTrainer_{args.minutes}minutes", "3d_fullres"),
    }
    results: dict[str, dict[str, list[float]]] = {name: {str(size): [] for size in SIZES} for name in methods}
    for draw in DRAWS:
        for size in SIZES:
            for name, (
                trainer,
                configuration,
            ) in methods.items():  # one after the other, so that noise meets them alike
                results[name][str(size)].append(dice(work.train(trainer, configuration, fold_number(size, draw))))
    report = {
        "minutes": args.minutes,
        "pretrain_minutes": args.pretrain_minutes,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": work.commands,
        "pretraining_dice_with_boxes": dice(pretrained),
        "dice": results,
    }
    name = args.name or f"hippocampus_transfer_{args.minutes}min_{args.device}"
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table(results))
    draw_picture(results, PICTURE)
    print(table(results))


if __name__ == "__main__":
    main()
