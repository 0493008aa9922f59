"""A model that takes prompts, trained on one fold of MSD hippocampus from random weights, and what prompts get of it.

    eval "$(sam2_3dmed env)"
    python benchmarks/prompt_training.py --minutes 45 -device cpu --image-size 96 --patch-size 56 40 --slices 6 \
        --batch-size 4                                                      # two CPU cores
    python benchmarks/prompt_training.py --minutes 20 -device cuda

Hippocampus must be planned and preprocessed (benchmarks/equal_time.py does it). Runs stock commands only, prints each,
skips what is there already (a training goes on with --c), and writes benchmarks/results/NAME.json, NAME.md and
NAME_per_case.csv: Dice and NSD of the cases that the model never saw, for each way to prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from equal_time import DATASET, RESULTS, Runner, machine, results_folder, training_facts

from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

CONFIGURATION = "3d_slices8"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, required=True, choices=(20, 45))
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs=2)
    parser.add_argument("--slices", type=int, help="of the configuration `3d`; stacks for prompts have 8")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    args = parser.parse_args()

    run = Runner(dry=False)
    run(
        *("sam2_3dmed", "plan", "-d", "4"),
        *(("--image-size", str(args.image_size)) if args.image_size else ()),
        *(("--patch-size", *map(str, args.patch_size)) if args.patch_size else ()),
        *(("--slices", str(args.slices)) if args.slices else ()),
        *(("--batch-size", str(args.batch_size)) if args.batch_size else ()),
    )
    trainer = f"SAM2_PromptTrainer_noPretrain_tuned_{args.minutes}minutes"
    folder = results_folder(CONFIGURATION, trainer) / "fold_0"
    run(
        *("nnUNetv2_train", "4", CONFIGURATION, "0", "-tr", trainer, "-device", args.device),
        done=folder / "validation" / "summary.json",
        go_on=["--c"] if folder.exists() else [],
    )
    output = folder / "prompt_benchmark"
    run(
        *("sam2_3dmed", "prompt-benchmark", "-d", "4", "-f", "0", "-o", str(output), "-device", args.device),
        *("--model", str(folder / "checkpoint_final.pth")),
    )

    name = f"prompts_hippocampus_fold0_{args.minutes}min_{args.device}"
    own = {str(nnunet_folder(variable)): f"${variable}" for variable in ("nnUNet_results", "nnUNet_preprocessed")}
    report = {
        "budget_minutes": args.minutes,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": run.commands,
        "training": training_facts(CONFIGURATION, trainer) | _network_of(folder / "checkpoint_final.pth"),
        "dataset": DATASET,
        "benchmark": json.loads((output / "prompt_benchmark.json").read_text()),
    }
    _write(RESULTS / f"{name}.json", json.dumps(report, indent=1) + "\n", own)
    notes = "".join(f"\n{note}\n" for note in args.note)
    _write(RESULTS / f"{name}.md", (output / "prompt_benchmark.md").read_text() + notes, own)
    _write(RESULTS / f"{name}_per_case.csv", (output / "per_case.csv").read_text(), own)
    print((RESULTS / f"{name}.md").read_text())


def _network_of(file: Path) -> dict:
    """Options of the network that was built: the plan's with the trainer's changes."""
    described = load_checkpoint(file)["init_args"][PROMPTED]
    return {"network": "PromptableSAM2", "network_arguments": described["network"]}


def _write(file: Path, text: str, own: dict[str, str]) -> None:
    """Without this machine's folders, of which a reader has others."""
    for here, anywhere in own.items():
        text = text.replace(here, anywhere)
    file.write_text(text)


if __name__ == "__main__":
    main()
