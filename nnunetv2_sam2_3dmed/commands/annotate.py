"""Annotate in rounds, as MedSAM2's authors did: rank unlabelled cases, correct the hardest, fine-tune.

    sam2_3dmed annotate outline -d 9 --prompts prompts.csv --round ROUND       # 2D masks, outlines.csv, previews
    sam2_3dmed annotate rank -d 9 --prompts ROUND/outlines.csv --revised FOLDER --round ROUND
    sam2_3dmed annotate rank -d 9 --prompts prompts.csv --round ROUND          # masks, ranking.csv, previews
    sam2_3dmed annotate rank -d 9 --predictions OUT -i IMAGES --round ROUND    # prompts from nnUNetv2_predict's masks
    sam2_3dmed annotate take -d 9 --round ROUND --corrected FOLDER --accept-below 0.05 --annotator NAME
    sam2_3dmed annotate finetune -d 9 -c 3d_slices8 -f 0
    sam2_3dmed annotate times --rounds ROUND_1 ROUND_2 -o FOLDER               # seconds per lesion and per slice

outline, which can be left out, segments the slices with prompts alone. Revise its masks (ROUND/outlines) in a folder
of your own, and fill in the columns first and last of ROUND/outlines.csv: rank then propagates the revised masks
exactly to these slices. Give both stages the same --model, --image-size and --window. Images that have the name of
a training case are refused, or left out with --skip-taken.

rank segments each case from its prompts and measures the disagreement of the model with itself about each object: the
larger of two values of 1 - Dice. One compares the mask with that from another kind of prompt on the same slice, derived
from the mask (a click after a box, a box after all else); the other compares the propagation outwards from that slice
with the propagation back from the last slices of the object. If an object has prompts on all of its slices, their masks
are compared with the propagation from the median slice instead, as MedSAM2's authors did with slice-wise and 3D boxes.
A case is as hard as its hardest object. With --group-by, ranking.csv says which case of each patient is the hardest
(column chosen), as MedSAM2's authors chose one of the eight MRI scans of each patient. A failed case is
named and does not stop the others; the same command continues with the missing cases. The CSV is that of `sam2_3dmed
segment --batch`; the object is the label.

take writes images and masks into imagesTr and labelsTr, all of them or none. A mask in the folder --corrected that
differs from the model's in any voxel is taken as corrected. An unchanged one is taken only if its case is named with
--confirmed, or if its disagreement is at most --accept-below, and needs --partial if some labels had no prompt.
annotations.csv in the dataset's folder lists the source of each label: machine, confirmed or corrected. A corrected
label is replaced only with --replace, and a label that was edited in labelsTr never.

finetune preprocesses new cases, trains on them beside the fold's training cases, never validates against them, and
starts nnU-Net from the last checkpoint, at half the learning rate of the trainer that made it. splits_final.json is not
changed; `sam2_3dmed splits --force` adds the cases for other trainers.

times reads times.csv of each round, to which outline and rank write the machine's seconds, and clients or people the
person's (column person_seconds), and writes annotation_times.md, .csv and .png beside MedSAM2's published times.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.commands.options import (
    add_axis,
    add_dataset,
    add_plans,
    add_prompted_model,
    add_window,
    check_image_size,
    prepare_device,
)
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder
from nnunetv2_sam2_3dmed.images.windows import window_of
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
    from nnunetv2_sam2_3dmed.annotation.rounds import Round
    from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession

EPOCHS = 6  # MedSAM2's second round


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, purpose, add in (
        ("outline", "segment the prompted slices of unlabelled cases, to be revised before rank", _add_outline),
        ("rank", "segment unlabelled cases and rank them by the model's disagreement", _add_rank),
        ("take", "take masks of a round into the dataset", _add_take),
        ("finetune", "fine-tune with the taken masks", _add_finetune),
        ("times", "tabulate and plot the seconds per lesion and per slice over rounds", _add_times),
    ):
        action = actions.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if add is not _add_times:
            add_dataset(action)
        add(action)


def run(args: argparse.Namespace) -> None:
    actions = {"outline": _outline, "rank": _rank, "take": _take, "finetune": _finetune, "times": _times}
    actions[args.action](args)


def _add_round(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--round", dest="round_folder", type=Path, required=True, metavar="FOLDER", help="folder of the round"
    )


def _add_outline(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", type=Path, metavar="CSV", help="prompts, as for sam2_3dmed segment --batch")
    source.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="predictions of an automatic model, from which boxes are made",
    )
    parser.add_argument("-i", dest="images", type=Path, metavar="FOLDER", help="images CASE_0000 of --predictions")
    _add_round(parser)
    add_prompted_model(parser)
    add_window(parser)
    add_axis(parser)
    parser.add_argument("--no-preview", action="store_true", help="write no pictures of the masks")
    parser.add_argument(
        "--skip-taken", action="store_true", help="leave out images with the name of a training case of the dataset"
    )


def _add_rank(parser: argparse.ArgumentParser) -> None:
    _add_outline(parser)
    parser.add_argument(
        "--revised",
        type=Path,
        metavar="FOLDER",
        help="revised masks, instead of those of the same file names in --prompts",
    )
    parser.add_argument(
        "--group-by",
        metavar="pairs|REGEX",
        help="rule for the patient of a case, as for sam2_3dmed splits: of each patient the hardest cases are chosen "
        "(default: the rule that the round has, if any)",
    )
    parser.add_argument(
        "--per-patient",
        type=int,
        metavar="N",
        help="number of cases to choose of each patient (default: as the round has it, else 1)",
    )


def _add_take(parser: argparse.ArgumentParser) -> None:
    _add_round(parser)
    parser.add_argument("--corrected", type=Path, metavar="FOLDER", help="masks reviewed by an annotator")
    parser.add_argument("--confirmed", nargs="+", default=[], metavar="CASE", help="cases with correct masks")
    parser.add_argument(
        "--accept-below",
        type=float,
        metavar="X",
        help="accept masks without review if their disagreement is at most X",
    )
    parser.add_argument("--partial", action="store_true", help="labels without a prompt are absent from the image")
    parser.add_argument("--replace", action="store_true", help="replace masks that were corrected earlier")
    parser.add_argument("--annotator", default="", metavar="NAME", help="name of the annotator, for the record")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", dest="configuration", default="3d_slices8", help="default: %(default)s")
    parser.add_argument("-f", dest="fold", type=int, required=True, help="fold number")
    add_plans(parser)
    parser.add_argument(
        "-tr",
        dest="trainer",
        default="SAM2_PromptTrainer_finetune",
        help="this trainer or a subclass (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        help="checkpoint to start from (default: the last fine-tuning of this fold, else its SAM2_PromptTrainer, else, "
        "if no other trainer of promptable models has trained the fold, MedSAM2)",
    )
    parser.add_argument(
        "--seen-validation",
        action="store_true",
        help="accept a model that may have been trained on validation cases of this fold",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"epochs of 250 iterations (default: {EPOCHS}; MedSAM2's authors took 6, then 15 epochs)",
    )
    parser.add_argument("--c", dest="go_on", action="store_true", help="continue an interrupted fine-tuning")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    parser.add_argument(
        "-np", dest="processes", type=int, default=2, help="processes for preprocessing (default: %(default)s)"
    )


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", nargs="+", type=Path, required=True, metavar="FOLDER", help="folders of the rounds, in their order"
    )
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER", help="output folder")


def _outline(args: argparse.Namespace) -> None:
    window, cases, into, session, dataset = _begin(args, None)

    from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, Outlining, is_outlined

    left = [case for case in cases if not is_outlined(case, into, args.axis)]
    _say_done(cases, left)
    outlining = Outlining(session, dataset.objects, args.axis, window, not args.no_preview)
    failed = outlining.run(left, into, lambda line: print(line, file=sys.stderr))
    if into.outlines:
        print((args.round_folder / TABLE).read_text("utf-8"), end="")
    _check_none_failed(failed, left)


def _rank(args: argparse.Namespace) -> None:
    if args.revised is not None and args.prompts is None:
        raise UserError("--revised replaces masks of --prompts: give both, or leave it out.")
    if args.per_patient is not None and args.per_patient < 1:
        raise UserError(f"--per-patient is {args.per_patient}, but must be at least 1.")
    from nnunetv2_sam2_3dmed.nnunet.folds import group_cases

    if args.group_by is not None:
        group_cases([], args.group_by)  # checks the expression
    window, cases, into, session, dataset = _begin(args, args.revised)
    rule = into.group_by if args.group_by is None else args.group_by
    if rule:
        group_cases([*into.cases, *(case.name for case in cases)], rule)
    elif args.per_patient is not None:
        raise UserError("--per-patient chooses among the cases of a patient: name the patients with --group-by.")

    from nnunetv2_sam2_3dmed.annotation.ranking import Ranking, is_done
    from nnunetv2_sam2_3dmed.annotation.rounds import RANKING

    left = [case for case in cases if not is_done(case, into, args.axis)]
    _say_done(cases, left)
    ranking = Ranking(session, dataset.objects, args.axis, window, not args.no_preview)
    failed = ranking.run(left, into, lambda line: print(line, file=sys.stderr))
    if rule:
        into.group(rule, into.per_patient if args.per_patient is None else args.per_patient)
    if into.cases:
        print((args.round_folder / RANKING).read_text("utf-8"), end="")
    _check_none_failed(failed, left)


def _begin(
    args: argparse.Namespace, revised: Path | None
) -> tuple[str | tuple[float, float], list[Unlabelled], Round, InteractiveSession, RawDataset]:
    """Return window, cases, round, session and dataset of a stage with the model, after all checks.

    Raises:
        UserError: an option, a file or a case is not valid, or the round has another model or dataset.
    """
    if (args.predictions is None) != (args.images is None):
        raise UserError("--predictions and -i, the folder of their images, belong together: give both or neither.")
    window = window_of(args.window)
    check_image_size(args.image_size)
    check_writable_folder(args.round_folder)

    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
    from nnunetv2_sam2_3dmed.annotation.rounds import FILE, Round
    from nnunetv2_sam2_3dmed.annotation.unlabelled import (
        cases_of_predictions,
        cases_of_table,
        check_new,
        without_taken,
    )
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.interactive.model import model_file
    from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

    dataset = open_dataset(args.dataset)
    if args.prompts is not None:
        cases = cases_of_table(args.prompts, dataset, revised)
    else:
        cases = cases_of_predictions(args.predictions, args.images, dataset)
    known = Round.read(args.round_folder) if (args.round_folder / FILE).is_file() else None
    own = set() if known is None else {*known.cases, *known.outlines}
    if args.skip_taken:
        given, cases = cases, without_taken(cases, dataset, own)
        if len(cases) < len(given):
            print(
                f"{len(given) - len(cases)} of {len(given)} images are left out: {dataset.name} has training cases of "
                "their names",
                file=sys.stderr,
            )
    check_new(cases, dataset, own)
    session = InteractiveSession(args.model, args.device, args.precision, args.image_size)
    model = model_file(args.model).resolve()
    made_by = {
        "dataset": dataset.name,
        "file_ending": dataset.ending,
        "model": str(model),
        "model_sha256": sha256_of(model),
        "image_size": session.image_size,
        "window": args.window,
    }
    return window, cases, Round.begin(args.round_folder, made_by), session, dataset


def _say_done(cases: Sequence[Unlabelled], left: Sequence[Unlabelled]) -> None:
    if len(left) < len(cases):
        print(f"{len(cases) - len(left)} of {len(cases)} cases are done already", file=sys.stderr)


def _check_none_failed(failed: Mapping[str, str], left: Sequence[Unlabelled]) -> None:
    if failed:
        raise UserError(
            f"{len(failed)} of {len(left)} cases were not segmented, for the reasons above: {', '.join(failed)}."
        )


def _take(args: argparse.Namespace) -> None:
    if args.accept_below is not None and not 0 <= args.accept_below <= 1:
        raise UserError(f"--accept-below is {args.accept_below:g}, but a disagreement is 0 to 1.")

    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
    from nnunetv2_sam2_3dmed.annotation.record import FILE, SOURCES, locked
    from nnunetv2_sam2_3dmed.annotation.rounds import Round
    from nnunetv2_sam2_3dmed.annotation.taking import Review, choose, take

    dataset = open_dataset(args.dataset)
    done = Round.read(args.round_folder)
    review = Review(args.corrected, args.confirmed, args.accept_below, args.annotator, args.partial, args.replace)
    with locked(dataset.folder):  # two annotators at once would overwrite each other's rows
        chosen = choose(dataset, done, review)
        take(dataset, chosen)
    count = {source: sum(taken.annotation.source == source for taken in chosen) for source in SOURCES}
    said = ", ".join(f"{number} {source}" for source, number in count.items())
    print(f"took {len(chosen)} of {len(done.cases)} cases ({said}); {dataset.folder / FILE} lists them")


def _finetune(args: argparse.Namespace) -> None:
    if args.go_on and (args.model is not None or args.epochs is not None):
        raise UserError("--c continues an interrupted fine-tuning: leave --model and --epochs out.")
    for name, number in (("--epochs", args.epochs), ("-np", args.processes)):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}, but must be at least 1.")
    # before anything of nnU-Net's is imported
    os.environ[EXT_TRAINER] = search_path()

    from nnunetv2_sam2_3dmed.annotation.finetuning import FinetuningRun
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset

    prepare_device(args.device)
    run = FinetuningRun(open_dataset(args.dataset), args.configuration, args.fold, args.trainer, args.plans)
    if args.go_on:
        start = run.begun()
    else:
        start = run.prepare(
            args.model,
            args.epochs or EPOCHS,
            args.processes,
            lambda line: print(line, file=sys.stderr),
            args.seen_validation,
        )
    print(
        f"fine-tuning {start.checkpoint} ({start.trained_by}) for {start.epochs} epochs at {start.peak_lr:g}"
        + ("" if start.trunk_lr is None else f", image encoder {start.trunk_lr:g}")
    )
    run.train(args.device, args.go_on)


def _times(args: argparse.Namespace) -> None:
    check_writable_folder(args.output)

    from nnunetv2_sam2_3dmed.annotation.times_report import times_of, write_times

    print(write_times([one for folder in args.rounds for one in times_of(folder)], args.output), end="")
