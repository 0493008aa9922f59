"""Train on several machines: what `nnUNetv2_train -num_gpus N` does on one, as a process that torchrun starts.

On each of two machines with four GPUs:

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        --no-python sam2_3dmed train 9 3d 0 -tr SAM2_3dMedTrainer

nnU-Net's folders must be the same for all machines (a shared file system), and SAM 2's weights installed on each, or
SAM2_3dMed_weights must name a shared folder. The batch in the plan is spread over all processes. On one machine use
nnU-Net's own command: `nnUNetv2_train 9 3d 0 -tr SAM2_3dMedTrainer -num_gpus 4`.
"""

from __future__ import annotations

import argparse
import os

from nnunetv2_sam2_3dmed.commands.options import add_plans
from nnunetv2_sam2_3dmed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="dataset id or name")
    parser.add_argument("configuration", help="configuration, for example 3d")
    parser.add_argument("fold", help="0 to 4, or all")
    parser.add_argument("-tr", dest="trainer", default="SAM2_3dMedTrainer", help="default: %(default)s")
    add_plans(parser)
    parser.add_argument("--c", dest="go_on", action="store_true", help="continue from the latest checkpoint")
    parser.add_argument("--val", action="store_true", help="only run the final validation")
    parser.add_argument("--val_best", action="store_true", help="validate with checkpoint_best")
    parser.add_argument("--npz", action="store_true", help="save the probabilities of the final validation")
    parser.add_argument("-device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.nnunet.folders import check_nnunet_version, dataset_name

    check_nnunet_version()
    if "WORLD_SIZE" not in os.environ:
        raise UserError(
            "`sam2_3dmed train` is started by torchrun, which says how many processes there are (WORLD_SIZE is not "
            "set): see `sam2_3dmed train -h`, or use nnU-Net's own `nnUNetv2_train` on a single machine."
        )
    if args.go_on and args.val:
        raise UserError("--c and --val cannot both be given: --c trains, --val only validates.")
    if not (args.fold == "all" or args.fold.isdigit()):
        raise UserError(f"the fold is {args.fold!r}, but must be a number or all.")
    dataset = dataset_name(args.dataset)

    import torch
    import torch.distributed as dist
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    from nnunetv2_sam2_3dmed.training.names import find_trainer
    from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

    if not issubclass(find_trainer(args.trainer), SAM2_3dMedTrainer):
        raise UserError(
            f"{args.trainer} is not one of this package's trainers, and nnU-Net's own run on one machine only: use "
            f"`nnUNetv2_train -num_gpus`."
        )
    if args.device == "cuda":
        torch.set_num_threads(1)  # as nnU-Net does
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.backends.cudnn.benchmark = True
    dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
    try:
        fold = args.fold if args.fold == "all" else int(args.fold)
        trainer = get_trainer_from_args(
            dataset, args.configuration, fold, args.trainer, args.plans, args.go_on, torch.device(args.device)
        )
        if dist.get_rank() == 0:
            trainer.do_split()  # writes the folds if there are none yet, which the others must not see half
        dist.barrier()
        maybe_load_checkpoint(trainer, args.go_on, args.val)
        if not args.val:
            trainer.run_training()
        if args.val_best:
            trainer.load_checkpoint(os.path.join(trainer.output_folder, "checkpoint_best.pth"))
        trainer.perform_actual_validation(args.npz)
    finally:
        dist.destroy_process_group()
