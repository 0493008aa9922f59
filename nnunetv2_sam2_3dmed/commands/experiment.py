"""Train, validate and compare the methods of a small YAML file with nnU-Net's own commands.

    name: table1
    datasets: [9, 7]
    folds: [0, 1, 2, 3, 4]
    seeds: [0, 1, 2]           # optional: each trainer once per seed; without it, once as it is
    methods:
      - {trainer: nnUNetTrainer, configuration: 3d_fullres}
      - {trainer: SAM2_3dMedTrainer, configuration: 3d}
      - {trainer: nnUNetTrainer, configuration: 3d_fullres, plans: nnUNetResEncUNetMPlans, name: ResEnc M}
    reference: nnUNetTrainer__nnUNetPlans__3d_fullres      # optional: what the paired tests are against

    sam2_3dmed experiment table1.yaml --dry-run             the commands
    sam2_3dmed experiment table1.yaml                       on this machine, one run per GPU
    sam2_3dmed experiment table1.yaml --slurm --partition gpu --time 24:00:00
    sam2_3dmed experiment table1.yaml --compare-only        afterwards, or for what is done so far

Any trainer that nnU-Net finds can be listed, with a length too: nnUNetTrainer_20minutes, SAM2_3dMedTrainer_50epochs.

Everything is checked before anything runs. The same command continues after an interruption, from the state that
nnU-Net's own files show. Runs begun on other folds or plans than there are now are refused. A run that fails is
reported with the end of its log and does not stop the others; the comparison then covers the folds that all methods
have, and the exit status is 1. The output folder gets plan.txt, logs, records of times and failures, and one folder per
dataset with the comparison and its report.html.

On SLURM, runs that reach the time limit are queued again and go on; compare afterwards with --compare-only. Submitting
again is safe: a run that is done or under way is left alone; a task that finds its run under way waits ten minutes for
it and then ends as failed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="what to train, in YAML as above")
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FOLDER",
        help="default: experiment_NAME in nnUNet_results",
    )
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="cpu, cuda:0, cuda:1, ... (default: all GPUs, or the CPU)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="check, print the commands, run nothing")
    what.add_argument("--compare-only", action="store_true", help="compare what is done, run nothing")
    what.add_argument("--slurm", action="store_true", help="submit a job array (needs the extra `slurm`: submitit)")
    cluster = parser.add_argument_group("resources of each run with --slurm")
    cluster.add_argument("--partition", help="SLURM partition")
    cluster.add_argument("--time", default="24:00:00", help="minutes or D-HH:MM:SS (default: %(default)s)")
    cluster.add_argument("--gpus", type=int, choices=(0, 1), default=1, help="0 trains on the CPU (default: 1)")
    cluster.add_argument("--mem", type=int, default=64, metavar="GB", help="main memory (default: %(default)s)")
    cluster.add_argument("--cpus", type=int, default=12, metavar="N", help="cores (default: %(default)s)")
    cluster.add_argument(
        "--slurm-option", action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch, repeated"
    )


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.errors import UserError
    from nnunetv2_sam2_3dmed.experiments.slurm import (
        ClusterOptions,
        check_partition,
        parse_extra,
        parse_minutes,
        submit,
    )
    from nnunetv2_sam2_3dmed.experiments.specification import read_specification
    from nnunetv2_sam2_3dmed.files import check_writable_folder
    from nnunetv2_sam2_3dmed.nnunet.folders import check_nnunet_version

    check_nnunet_version()
    specification = read_specification(args.file)
    check_partition(args.partition)
    if args.mem < 1 or args.cpus < 1:
        raise UserError(f"--mem {args.mem} --cpus {args.cpus}: expected 1 or more of each.")
    options = ClusterOptions(
        partition=args.partition,
        minutes=parse_minutes(args.time),
        gpus=args.gpus,
        memory_gb=args.mem,
        cpus=args.cpus,
        extra=parse_extra(args.slurm_option),
    )

    # nnU-Net imports torch, which a mistake in the file need not wait for
    from nnunetv2_sam2_3dmed.experiments.devices import count_gpus, find_devices
    from nnunetv2_sam2_3dmed.experiments.experiment import (
        compare_datasets,
        only_one,
        prepare,
        print_failures,
        run_experiment,
        write_plan,
    )

    devices = [] if args.slurm else find_devices(args.devices, count_gpus())
    device = options.device if args.slurm else devices[0].kind
    experiment = prepare(specification, args.output)
    if args.dry_run:
        print(experiment.plan(device), end="")
        return
    check_writable_folder(experiment.output)
    try:
        if args.compare_only or (args.slurm and not experiment.unfinished):
            with only_one(experiment.output):
                print_failures(experiment)
                complete = compare_datasets(experiment)
        elif args.slurm:
            with only_one(experiment.output):
                write_plan(experiment, device)
                runs = experiment.unfinished
                jobs = submit(specification.name, runs, experiment.output, experiment.environment, options)
            print(f"submitted {len(jobs)} runs as job {jobs[0].job_id.split('_')[0]}")
            output = () if args.output is None else ("-o", str(args.output))
            print("afterwards: " + shlex.join(["sam2_3dmed", "experiment", str(args.file), *output, "--compare-only"]))
            return
        else:
            complete = run_experiment(experiment, devices)
    except KeyboardInterrupt:
        raise UserError("interrupted; the same command continues where it stopped.") from None
    if not complete:
        sys.exit(1)
