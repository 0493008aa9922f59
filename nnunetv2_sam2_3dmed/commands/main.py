"""The ``sam2_3dmed`` command: one subcommand per module of this package."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from nnunetv2_sam2_3dmed.errors import UserError, in_one_line

# subcommand -> what it is for; the module of the same name is imported only when its subcommand runs,
# so that `sam2_3dmed env`, which shells evaluate, does not wait for torch
COMMANDS = {
    "env": "print the shell lines that tell nnU-Net where our trainers are",
    "plan": "add the configuration `3d` to a dataset's nnU-Net plans",
    "weights": "install a SAM 2 checkpoint into the local weights folder",
    "videos": "convert videos with masks into a dataset of nnU-Net",
    "merge": "merge datasets, each with a sampling rate of its own",
    "splits": "write folds that keep all cases of a subject together",
    "train": "train on several machines, started by torchrun",
    "predict": "predict as nnUNetv2_predict does, in larger batches",
    "demo": "run the whole comparison with nnU-Net on a small dataset",
    "compare": "Dice, IoU, HD95 and NSD of several trained models, side by side",
    "report": "the comparison as one HTML file, with plots, overlays, surfaces and costs",
    "segment": "segment an image from prompts on a few slices: points, boxes, masks, scribbles",
    "serve": "serve prompted segmentation to viewers: napari, 3D Slicer, MITK, ITK-SNAP, and a page of its own",
    "prompt-benchmark": "measure prompted segmentation with simulated clicks, masks and boxes",
    "prompt-experiment": "measure prompted segmentation on several datasets, as the tables of a publication",
    "annotate": "annotate in rounds: outline and rank unlabelled cases, take masks into the dataset, fine-tune",
    "experiment": "train, validate and compare a list of methods on datasets and folds",
}


class _Parser(argparse.ArgumentParser):
    """Parser that reports a mistake in one line, as commands do, instead of listing all options first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} -h).\n")


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of the subcommand named in ``argv`` (the others keep only their names)."""
    parser = _Parser(
        prog="sam2_3dmed",
        description="SAM2-3dMed inside nnU-Net v2. Training and prediction use nnU-Net's own commands "
        "(nnUNetv2_train ... 3d FOLD -tr SAM2_3dMedTrainer, nnUNetv2_predict); this command does the rest.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((a for a in argv if not a.startswith("-")), None)
    for name, purpose in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name == named:
            module = importlib.import_module(f"nnunetv2_sam2_3dmed.commands.{name.replace('-', '_')}")
            if module.__doc__:
                subparser.description = module.__doc__
            subparser.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: this process's) and return its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = build_parser(argv).parse_args(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f"sam2_3dmed {args.command}: {in_one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written to
        if args.command in ("train", "predict") or getattr(args, "action", None) == "finetune":
            raise  # somewhere in hours of nnU-Net's code: where, matters
        print(f"sam2_3dmed {args.command}: {in_one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
