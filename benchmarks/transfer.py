"""Few training cases: weights that know the structure against random weights and nnU-Net, for the same minutes each.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/transfer.py -o FOLDER --minutes 9 --pretrain-minutes 50 -device cpu --jobs 2 --draws 0

The paper's claim, that pretrained weights pay where labels are few, in miniature. Subjects of MSD hippocampus (cases
2k - 1 and 2k) are halved. On one half a promptable model learns from random weights (``SAM2_PromptTrainer``, no labels
of classes: it segments what a prompt marks), is exported in SAM 2's official format and installed. It has seen masks of
about a hundred cases of the same structures, which no pretraining on natural images has. On 8, 16 and 32 cases of the
other half, three draws each, train:

- good weights: ``SAM2_3dMedTrainer`` from the exported file, trunk frozen, 5e-5, as the paper trains it from SAM 2's;
- good weights, frozen, tuned: with the trunk frozen, too, and all else as in ``SAM2_3dMedTrainer_noPretrain_tuned``;
- good weights, tuned: the recipe of ``SAM2_3dMedTrainer_noPretrain_tuned`` from the same file;
- random weights, tuned: the same but for the weights;
- nnU-Net.

All with batches of 2: in a few minutes on a CPU larger ones, such as nnU-Net's own of 7, allow too few steps. None
writes ``checkpoint_best.pth`` (benchmarks/trainers).

All are validated on the same cases of the second half, which are in no draw. Runs stock commands in nnU-Net folders
under FOLDER, skips what is there already (a training goes on with --c), and writes benchmarks/results/NAME.json,
NAME.md and docs/images/transfer.png after each draw. The draws of other runs of the same settings, which had a
pretraining of their own, stay in these files, so that each draw can be made by itself, and elsewhere: ``--draws 1``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from equal_time import RESULTS, machine
from reports import Report, begin_report, in_order, numbers, processor
from workplace import Training, Workplace

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.folds import PAIRS, Folds, group_cases

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "transfer.png"
SIZES, DRAWS = (8, 16, 32), (0, 1, 2)
TEST_SUBJECTS, PROBES = 16, 6  # whose cases all methods are scored on; and for the pretraining's pseudo Dice
IMAGE_SIZE = 64
OPTIONS = ["--patch-size", "56", "40", "--image-size", str(IMAGE_SIZE)]
CONFIGURATIONS = {
    "3d_prompts": [*OPTIONS, "--slices", "8", "--batch-size", "4"],
    "3d_few": [*OPTIONS, "--slices", "6", "--batch-size", "2"],
}
NNUNET = "3d_fullres_batch2"
NNUNET_CONFIGURATION = {"inherits_from": "3d_fullres", "batch_size": 2}
PLANS = {**CONFIGURATIONS, NNUNET: NNUNET_CONFIGURATION}
BACKBONE = "sam2.1_hiera_tiny"
METHODS = {
    "good weights": ("PaperRecipeTrainer", "3d_few"),
    "good weights, frozen, tuned": ("FrozenGoodWeightsTrainer", "3d_few"),
    "good weights, tuned": ("GoodWeightsTrainer", "3d_few"),
    "random weights, tuned": ("RandomWeightsTrainer", "3d_few"),
    "nnU-Net, batches of 2": ("PlainNNUNetTrainer", NNUNET),
}
DIFFERENCES = (
    ("good weights, tuned", "random weights, tuned"),  # the weights
    ("good weights, frozen, tuned", "random weights, tuned"),
    ("good weights, frozen, tuned", "good weights"),  # the recipe
    ("good weights, frozen, tuned", "nnU-Net, batches of 2"),
)
TOLERATED = 1.2  # times the epochs of the slowest draw: with more, machines of different speed are pointed out


def folds_of(cases: list[str]) -> Folds:
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
        # the smaller sets are parts of the larger ones
        folds += [{"train": flat(order)[:size], "val": flat(test)} for size in SIZES]
    return folds


def flat(subjects: list[list[str]]) -> list[str]:
    return [case for subject in subjects for case in subject]


def prepare(work: Workplace, folds: Folds, pretrain_minutes: int) -> None:
    """Write folds and plans; weights come from the experiment alone."""
    work.environment["SAM2_3dMed_weights"] = str(work.folder / "weights")
    work.begin(folds, pretrain_minutes=pretrain_minutes, plans=PLANS)
    for name, options in CONFIGURATIONS.items():
        work("sam2_3dmed", "plan", "-d", "4", *options, "--name", name)
    file = work.preprocessed / "nnUNetPlans.json"
    content = json.loads(file.read_text())
    content["configurations"][NNUNET] = NNUNET_CONFIGURATION
    file.write_text(json.dumps(content, indent=4))


def pretrain(work: Workplace, minutes: int) -> float:
    """Train, export and install the good weights; return their Dice on the validation cases, with prompts."""
    training = Training(f"UnfittedPromptTrainer_{minutes}minutes", "3d_prompts", 0)
    work.train_all([training], keep=True)
    checkpoint = work.fold_folder(training) / "checkpoint_final.pth"
    exported, installed = work.folder / "pretrained.pt", work.folder / "weights" / f"{BACKBONE}.pt"
    work("sam2_3dmed", "weights", str(checkpoint), "--export", str(exported), done=exported.exists())
    work("sam2_3dmed", "weights", str(exported), "--as", BACKBONE, done=installed.exists())
    return mean(work.dice(training).values())


def expect_good_weights(dice: float, least: float) -> None:
    """Print the pretraining's Dice.

    Raises:
        SystemExit: it is too low for weights that are called good.
    """
    print(f"the pretraining's Dice with prompts: {dice:.3f}", flush=True)
    if dice < least:
        sys.exit(
            f"the pretraining's Dice with prompts is {dice:.3f}, expected at least {least:g}: trained longer it may be "
            "higher (more --pretrain-minutes, in another folder), or lower --least-pretraining-dice."
        )


def training_of(method: str, minutes: int, size: int, draw: int) -> Training:
    trainer, configuration = METHODS[method]
    fold = 1 + DRAWS.index(draw) * len(SIZES) + SIZES.index(size)  # 0 is the pretraining's
    return Training(f"{trainer}_{minutes}minutes", configuration, fold)


def run_draw(work: Workplace, draw: int, minutes: int) -> dict[str, Any]:
    """Train all methods on the cases of a draw; return the epochs and the Dice of each case."""
    trainings = {method: {str(size): training_of(method, minutes, size, draw) for size in SIZES} for method in METHODS}
    # the methods beside each other, so that noise meets them alike
    cells = [trainings[method][str(size)] for size, method in product(SIZES, METHODS)]
    # minutes on a machine without other trainings are worth more: none is left alone at the end, but has beside it a
    # repetition of the first one that differs in its seed, which is not reported
    beside = [
        cells[0]._replace(trainer=f"{cells[0].trainer}_seed{number}") for number in range(-len(cells) % work.jobs)
    ]
    work.train_all([*cells, *beside])
    return {
        "epochs_of_25_iterations": {
            method: {size: work.facts(training)["epochs"] for size, training in by_size.items()}
            for method, by_size in trainings.items()
        },
        "dice_by_case": {
            method: {size: work.dice(training) for size, training in by_size.items()}
            for method, by_size in trainings.items()
        },
    }


Results = dict[str, dict[int, list[float]]]  # by method and number of cases, one Dice for each draw


def results_of(report: Report) -> Results:
    """Mean Dice over the cases, with the draws in their order."""
    draws = [draw["dice_by_case"] for draw in in_order(report)]
    return {
        method: {size: [mean(draw[method][str(size)].values()) for draw in draws] for size in SIZES}
        for method in METHODS
    }


def table(results: Results) -> str:
    """Mean Dice and standard deviation over the draws by number of cases, and the differences in each draw."""
    lines = [f"| training cases | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    for size in SIZES:
        lines.append(f"| {size} | {' | '.join(summary(by_size[size]) for by_size in results.values())} |")
    lines += ["", "Differences, draw by draw; a draw has the same cases in all methods:", ""]
    lines += [f"| training cases | {' | '.join(f'{one} minus {other}' for one, other in DIFFERENCES)} |"]
    lines += ["|---|" + "---|" * len(DIFFERENCES)]
    for size in SIZES:
        pairs = [zip(results[one][size], results[other][size], strict=True) for one, other in DIFFERENCES]
        lines.append(f"| {size} | {' | '.join(', '.join(f'{a - b:+.3f}' for a, b in pair) for pair in pairs)} |")
    return "\n".join(lines) + "\n"


def summary(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def epochs_of(report: Report) -> dict[str, dict[int, list[int]]]:
    """Return the epochs by method and number of cases, with the draws in their order."""
    draws = [draw["epochs_of_25_iterations"] for draw in in_order(report)]
    return {method: {size: [draw[method][str(size)] for draw in draws] for size in SIZES} for method in METHODS}


def epochs_table(report: Report) -> str:
    """Mean epochs over the draws, by number of cases, and where they differ much between draws."""
    epochs = epochs_of(report)
    lines = ["", "Epochs of 25 iterations, mean over the draws:", "", f"| training cases | {' | '.join(epochs)} |"]
    lines.append("|---|" + "---|" * len(epochs))
    for size in SIZES:
        lines.append(f"| {size} | {' | '.join(f'{mean(by_size[size]):.0f}' for by_size in epochs.values())} |")
    differing = [
        f"{method} with {size} cases ({', '.join(map(str, counts))})"
        for method, by_size in epochs.items()
        for size, counts in by_size.items()
        if max(counts) > TOLERATED * min(counts)
    ]
    if differing:
        much = f"more than {100 * (TOLERATED - 1):.0f} % between draws, as on machines of different speed"
        lines += ["", f"Epochs differ by {much}: {'; '.join(differing)}."]
    return "\n".join(lines) + "\n"


def setting(report: Report) -> str:
    """Say how the table was made."""
    settings, draws = report["settings"], in_order(report)
    with_prompts = ", ".join(f"{draw['pretraining_dice_with_prompts']:.3f}" for draw in draws)
    notes = dict.fromkeys(note for draw in draws for note in draw["notes"])
    machines = [f"draw {n} on {processor(report['runs'][n]['machine'])}" for n in numbers(report)]
    jobs = settings["trainings_at_a_time"]
    texts = [
        f"{settings['minutes']} minutes each on {settings['device']} ({', '.join(machines)}), {jobs} trainings at a "
        f"time{', one share of the cores each' if settings['device'] == 'cpu' and jobs > 1 else ''}. The good weights "
        f"are of a model that learned from prompts for {settings['pretrain_minutes']} minutes, with "
        f"{'all cores' if settings['device'] == 'cpu' else 'the GPU to itself'}, on "
        f"{settings['pretraining_cases']} cases of other subjects; its Dice on cases of other subjects that it was not "
        f"trained on, with a box on the middle slice: {with_prompts}. All but nnU-Net take images of {IMAGE_SIZE} px. "
        f"{len(draws)} of {len(DRAWS)} draws of training cases, one training each; ±: standard deviation over them.",
        *notes,
    ]
    return "".join(f"\n{text}\n" for text in texts)


def draw_picture(results: Results, file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for number, (method, by_size) in enumerate(results.items()):
        axis.plot(SIZES, [mean(by_size[size]) for size in SIZES], color=f"C{number}", marker="o", label=method)
        for size in SIZES:
            values = by_size[size]
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
    parser.add_argument("--jobs", type=int, default=1, help="trainings on few cases at a time (default: %(default)s)")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS, choices=DRAWS, help="to train (default: all)")
    parser.add_argument(
        "--least-pretraining-dice",
        type=float,
        default=0.7,
        metavar="DICE",
        help="with prompts, below which nothing is trained on few cases (default: %(default)s)",
    )
    parser.add_argument("--name", help="of the result files")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    args = parser.parse_args()

    work = Workplace(args.output, args.device, args.jobs)
    folds = folds_of(work.link())
    settings = {
        "minutes": args.minutes,
        "pretrain_minutes": args.pretrain_minutes,
        "pretraining_cases": len(folds[0]["train"]),
        "trainings_at_a_time": args.jobs,
        "device": args.device,
        "plans": PLANS,
    }
    name = args.name or f"hippocampus_transfer_{args.minutes}min_{args.device}"
    report = begin_report(RESULTS / f"{name}.json", settings)
    prepare(work, folds, args.pretrain_minutes)
    pretrained = pretrain(work.with_all_cores(), args.pretrain_minutes)
    expect_good_weights(pretrained, args.least_pretraining_dice)
    planned = work.commands.copy()
    for draw in args.draws:
        work.commands[:] = planned
        report["runs"][str(draw)] = {
            "notes": args.note,
            "machine": machine(args.device),
            "pretraining_dice_with_prompts": pretrained,
            **run_draw(work, draw, args.minutes),
            "commands": work.commands.copy(),
        }
        results = results_of(report)
        text = table(results) + epochs_table(report) + setting(report)
        write_text(RESULTS / f"{name}.json", json.dumps(report, indent=1) + "\n")
        write_text(RESULTS / f"{name}.md", text)
        draw_picture(results, PICTURE)
        print(text)


if __name__ == "__main__":
    main()
