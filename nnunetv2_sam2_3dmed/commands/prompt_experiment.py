"""Measure prompted segmentation on the datasets of a YAML file, as a table of a publication has them.

    sam2_3dmed prompt-experiment sam2_interactive_table1 -o OUT --dry-run      # what would be measured
    sam2_3dmed prompt-experiment sam2_interactive_table1 -o OUT
    sam2_3dmed prompt-experiment mine.yaml -o OUT

Installed with the package are Tables 1 and 2 of "Interactive 3D Medical Image Segmentation with SAM 2" (arXiv
2408.02635): sam2_interactive_table1 (with the gain per added point of Figure 3) and sam2_interactive_table2. A file of
your own:

    name: mine
    model: sam2_hiera_large          # installed (sam2_3dmed weights), or a file
    image_size: 1024                 # optional; SAM 2's own weights were trained at 1024
    protocols: [clicks, 1_mask]      # those of prompt-benchmark
    clicks: 5                        # optional
    tolerance: 2                     # of NSD in mm, optional; default: as in compare
    datasets:
      - {dataset: BraTS2020, channel: FLAIR, classes: {whole tumour: all}}
      - {dataset: 9}

A dataset is given by its number, its full name or its task, which is the name behind DatasetNNN_; a channel by its
number or its name; classes by their labels, by default those of the dataset. All training cases are measured.
Everything is checked before the model is loaded.

OUT receives a folder per dataset, as prompt-benchmark writes it, NAME.md with means and medians beside the published
figures of the same datasets and prompts, and NAME_gain.png with the gain in Dice per added point. The same command
continues an interrupted run, and an experiment of the same datasets, model, protocols and tolerance takes what OUT has
already.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import add_device, check_image_size
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="YAML as above, or the name of a file of the package")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER")
    add_device(parser)
    parser.add_argument("--dry-run", action="store_true", help="check, print what would be measured, measure nothing")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import read_experiment

    experiment = read_experiment(args.file)
    check_image_size(experiment.image_size)
    check_writable_folder(args.output)

    from nnunetv2_sam2_3dmed.files import write_text
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.interactive.model import model_file
    from nnunetv2_sam2_3dmed.prompt_evaluation.experiment import measure, prepare, protocols_of, warnings_of
    from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_table import as_text, plot_gain

    prepared = prepare(experiment, args.precision)
    chosen = protocols_of(experiment)
    if args.dry_run:
        size = "its default" if experiment.image_size is None else experiment.image_size
        print(f"{experiment.model}, images of {size} pixels, {', '.join(protocol.name for protocol in chosen)}")
        for one in prepared:
            classes = "its own classes" if one.run.classes is None else ", ".join(one.run.classes)
            print(
                f"{one.run.dataset}: {len(one.run.cases)} cases, channel {one.run.channel}, {classes}, NSD at "
                f"{one.run.tolerance.mm:g} mm"
            )
        return
    model_file(experiment.model)
    session = InteractiveSession(experiment.model, args.device, args.precision, experiment.image_size)
    measured = measure(prepared, session, args.output, lambda line: print(line, file=sys.stderr))
    text = as_text(experiment, chosen, measured, session.image_size, warnings_of(args.output, measured))
    for protocol in chosen:
        if protocol.name.endswith("_clicks"):
            plot_gain(args.output / f"{experiment.name}_gain.png", protocol.name, measured)
    write_text(args.output / f"{experiment.name}.md", text)
    print(text, end="")
    failed = [f"{case} of {name}" for name, one in measured.items() for case in one.failed]
    if failed:
        raise UserError(
            f"{len(failed)} cases were left out, for the reasons above: {', '.join(failed)}; the same command tries "
            "them again."
        )
