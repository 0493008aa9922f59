"""Annotate in rounds, after MedSAM2's authors: rank unlabelled cases, correct the hardest, fine-tune.

    sam2_3dmed annotate rank -d 9 --prompts prompts.csv --round ROUND          # masks, ranking.csv, previews
    sam2_3dmed annotate rank -d 9 --predictions OUT -i IMAGES --round ROUND    # prompts from nnUNetv2_predict's masks
    sam2_3dmed annotate take -d 9 --round ROUND --corrected FOLDER --accept-below 0.05 --annotator NAME
    sam2_3dmed annotate finetune -d 9 -c 3d_slices8 -f 0

rank segments each case from its prompts and measures how much the model disagrees with itself about each object:
1 - Dice between the masks from the prompt and from another kind of prompt on the same slice, made from the answer (a
click for a box, a box for all else), and 1 - Dice between the way out from that slice and the way back from the last
slices that the object reaches. The larger of both counts, and a case is as hard as its hardest object. A case that
fails is named and does not stop the others; the same command again goes on with the cases that are missing. The CSV is
that of `sam2_3dmed segment --batch`; the object is the label.

take puts images and masks into imagesTr and labelsTr, all of them or none. A mask in the folder --corrected that
differs from the machine's in any voxel is taken as corrected; one that does not only if its case is named with
--confirmed, or if its disagreement is at most --accept-below, and with --partial if some labels had no prompt.
annotations.csv in the dataset's folder says of each: machine, confirmed or corrected. A corrected label is replaced
only with --replace; one that was edited in labelsTr is not.

finetune preprocesses what is new, trains on it beside the fold's training cases, never validates against it, and starts
nnU-Net from the last checkpoint, at half the learning rate of the trainer that made it. splits_final.json stays as it
is; `sam2_3dmed splits --force` adds the cases for other trainers.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import (
    add_axis,
    add_dataset,
    add_plans,
    add_prompted_model,
    add_window,
    check_image_size,
    window_of,
)
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path

EPOCHS = 6  # MedSAM2's second round


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, purpose, add in (
        ("rank", "segment unlabelled cases, the one the model is least sure of first", _add_rank),
        ("take", "take masks of a round into the dataset", _add_take),
        ("finetune", "train on, with what was taken", _add_finetune),
    ):
        action = actions.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        add_dataset(action)
        add(action)


def run(args: argparse.Namespace) -> None:
    {"rank": _rank, "take": _take, "finetune": _finetune}[args.action](args)


def _add_round(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--round", dest="round_folder", type=Path, required=True, metavar="FOLDER", help="of the round")


def _add_rank(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", type=Path, metavar="CSV", help="prompts, as for sam2_3dmed segment --batch")
    source.add_argument(
        "--predictions", type=Path, metavar="FOLDER", help="masks of an automatic model: a box around each object"
    )
    parser.add_argument("-i", dest="images", type=Path, metavar="FOLDER", help="CASE_0000 of each of --predictions")
    _add_round(parser)
    add_prompted_model(parser)
    add_window(parser)
    add_axis(parser)
    parser.add_argument("--no-preview", action="store_true", help="no pictures of the masks")


def _add_take(parser: argparse.ArgumentParser) -> None:
    _add_round(parser)
    parser.add_argument("--corrected", type=Path, metavar="FOLDER", help="masks that somebody has had open")
    parser.add_argument("--confirmed", nargs="+", default=[], metavar="CASE", help="whose masks are good as they are")
    parser.add_argument(
        "--accept-below", type=float, metavar="X", help="take masks with a disagreement of at most X unseen"
    )
    parser.add_argument(
        "--partial", action="store_true", help="labels that had no prompt in a case are not in its image"
    )
    parser.add_argument(
        "--replace", action="store_true", help="corrected masks replace those that were corrected before"
    )
    parser.add_argument("--annotator", default="", metavar="NAME", help="who corrected and confirmed, for the record")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", dest="configuration", default="3d_slices8", help="default: %(default)s")
    parser.add_argument("-f", dest="fold", type=int, required=True, help="number")
    add_plans(parser)
    parser.add_argument(
        "-tr", dest="trainer", default="SAM2_PromptTrainer_finetune", help="it, or a subclass (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        help="checkpoint to start from (default: that of the last fine-tuning of this fold, else of its "
        "SAM2_PromptTrainer, else MedSAM2's)",
    )
    parser.add_argument(
        "--seen-validation",
        action="store_true",
        help="start even from a model that was trained on validation cases of this fold",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"of nnU-Net's 250 iterations (default: {EPOCHS}; MedSAM2's authors took 6, then 15 epochs)",
    )
    parser.add_argument("--c", dest="go_on", action="store_true", help="go on with what was interrupted")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    parser.add_argument("-np", dest="processes", type=int, default=2, help="that preprocess (default: %(default)s)")


def _rank(args: argparse.Namespace) -> None:
    if (args.predictions is None) != (args.images is None):
        raise UserError("--predictions and -i, the folder of their images, belong together: give both or neither.")
    window = window_of(args.window)
    check_image_size(args.image_size)
    check_writable_folder(args.round_folder)

    from nnunetv2_sam2_3dmed.annotation.ranking import Ranking, is_done
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
    from nnunetv2_sam2_3dmed.annotation.rounds import FILE, RANKING, Round
    from nnunetv2_sam2_3dmed.annotation.unlabelled import cases_of_predictions, cases_of_table, check_new
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.interactive.model import model_file
    from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

    dataset = open_dataset(args.dataset)
    if args.prompts is not None:
        cases = cases_of_table(args.prompts, dataset)
    else:
        cases = cases_of_predictions(args.predictions, args.images, dataset)
    check_new(cases, dataset, Round.read(args.round_folder).cases if (args.round_folder / FILE).is_file() else ())
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
    into = Round.begin(args.round_folder, made_by)
    left = [case for case in cases if not is_done(case, into, args.axis)]
    if len(left) < len(cases):
        print(f"{len(cases) - len(left)} of {len(cases)} cases are done already", file=sys.stderr)
    ranking = Ranking(session, dataset.objects, args.axis, window, not args.no_preview)
    failed = ranking.run(left, into, lambda line: print(line, file=sys.stderr))
    if into.cases:
        print((args.round_folder / RANKING).read_text(), end="")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(left)} cases were not segmented, for the reasons above: {', '.join(failed)}."
        )


def _take(args: argparse.Namespace) -> None:
    if args.accept_below is not None and not 0 <= args.accept_below <= 1:
        raise UserError(f"--accept-below is {args.accept_below:g}, but a disagreement is 0 to 1.")

    from nnunetv2_sam2_3dmed.annotation.choosing import Judgement, choose
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
    from nnunetv2_sam2_3dmed.annotation.record import FILE, SOURCES, locked
    from nnunetv2_sam2_3dmed.annotation.rounds import Round
    from nnunetv2_sam2_3dmed.annotation.taking import take

    dataset = open_dataset(args.dataset)
    done = Round.read(args.round_folder)
    judgement = Judgement(args.corrected, args.confirmed, args.accept_below, args.annotator, args.partial, args.replace)
    with locked(dataset.folder):  # two annotators at once would lose each other's lines
        chosen = choose(dataset, done, judgement)
        take(dataset, chosen)
    count = {source: sum(taken.annotation.source == source for taken in chosen) for source in SOURCES}
    said = ", ".join(f"{number} {source}" for source, number in count.items())
    print(f"took {len(chosen)} of {len(done.cases)} cases ({said}); {dataset.folder / FILE} says which")


def _finetune(args: argparse.Namespace) -> None:
    if args.go_on and (args.model is not None or args.epochs is not None):
        raise UserError("--c goes on with what was begun: leave --model and --epochs out.")
    for name, number in (("--epochs", args.epochs), ("-np", args.processes)):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}, but must be at least 1.")
    # before anything of nnU-Net's is imported
    os.environ[EXT_TRAINER] = search_path()

    import torch

    from nnunetv2_sam2_3dmed.annotation.finetuning import FinetuningRun
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device is cuda, but torch finds no CUDA GPU here: add `-device cpu`.")
    run = FinetuningRun(open_dataset(args.dataset), args.configuration, args.fold, args.trainer, args.plans)
    if args.go_on:
        point = run.begun()
    else:
        point = run.prepare(
            args.model,
            args.epochs or EPOCHS,
            args.processes,
            lambda line: print(line, file=sys.stderr),
            args.seen_validation,
        )
    print(
        f"fine-tuning {point.checkpoint} ({point.trained_by}) for {point.epochs} epochs at {point.peak_lr:g}"
        + ("" if point.trunk_lr is None else f", image encoder {point.trunk_lr:g}")
    )
    # as nnU-Net's own command: on a GPU, threads on the CPU bring nothing
    torch.set_num_threads(1 if args.device == "cuda" else torch.multiprocessing.cpu_count())
    run.train(args.device, args.go_on)
