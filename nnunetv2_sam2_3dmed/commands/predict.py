"""Predict as `nnUNetv2_predict` does, in larger batches: the same segmentations, up to rounding.

    sam2_3dmed predict -d 9 -c 3d -tr SAM2_3dMedTrainer -f 0 -i IN -o OUT
    sam2_3dmed predict -m FOLDER -i IN -o OUT            a results folder TRAINER__PLANS__CONFIG, wherever it lies

Takes the options of nnUNetv2_predict, and predicts with nnU-Net's own models as well. Images that are incomplete,
damaged, or hold NaN or infinite voxels are left out. If nnU-Net's prediction breaks off on a case, the remaining cases
are predicted one by one. All failed cases are listed at the end. --continue_prediction predicts incomplete output files
again. A checkpoint that holds code instead of weights is refused; plans.json names the
classes that are run, so that a model should still be one you trust.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import add_plans, prepare_device
from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.files import check_writable_folder
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", dest="input", type=Path, required=True, help="folder of images, CASE_0000.nii.gz")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the segmentations")
    parser.add_argument("-d", dest="dataset", help="dataset id or name")
    parser.add_argument("-c", dest="configuration", default="3d", help="configuration (default: %(default)s)")
    parser.add_argument("-tr", dest="trainer", default="SAM2_3dMedTrainer", help="default: %(default)s")
    add_plans(parser)
    parser.add_argument("-m", dest="model", type=Path, help="results folder, instead of -d, -c, -tr and -p")
    parser.add_argument("-f", dest="folds", nargs="+", help="folds, averaged (default: all that are trained)")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", help="default: %(default)s")
    parser.add_argument("-step_size", type=float, default=0.5, help="of the windows, as a share (default: %(default)s)")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring")
    parser.add_argument("--windows", type=int, help="windows at once (default: as many as fit)")
    parser.add_argument("--save_probabilities", action="store_true", help="for ensembles")
    parser.add_argument("--continue_prediction", "--c", action="store_true", help="keep files that are there and whole")
    parser.add_argument("-prev_stage_predictions", type=Path, help="folder, for the second network of a cascade")
    for option, purpose in (("npp", "preprocessing"), ("nps", "exporting")):
        default = os.environ.get(f"nnUNet_{option}", "3")
        parser.add_argument(f"-{option}", type=int, default=default, help=f"{purpose} processes (default: {default})")
    parser.add_argument("-num_parts", type=int, default=1, help="share the cases out over so many calls")
    parser.add_argument("-part_id", type=int, default=0, help="which of them this is, from 0")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    parser.add_argument("--not_on_device", action="store_true", help="sum the windows up in the computer's memory")
    parser.add_argument("--disable_progress_bar", action="store_true")
    parser.add_argument("--verbose", action="store_true")


def run(args: argparse.Namespace) -> None:
    _check_numbers(args)
    check_writable_folder(args.output)
    # before anything of nnU-Net's is imported
    os.environ[EXT_TRAINER] = search_path()
    model = _model_folder(args)
    folds = _folds(model, args.folds, args.checkpoint)
    ending, channels = _images(model, args.input)

    import torch

    from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
    from nnunetv2_sam2_3dmed.inference.whole_files import check_images

    prepare_device(args.device)
    predictor = SAM2_3dMedPredictor(
        tile_step_size=args.step_size,
        use_mirroring=not args.disable_tta,
        perform_everything_on_device=not args.not_on_device,
        device=torch.device(args.device),
        verbose=args.verbose,
        verbose_preprocessing=args.verbose,
        allow_tqdm=not args.disable_progress_bar,
        windows_at_once=args.windows,
    )
    try:
        predictor.initialize_from_trained_model_folder(str(model), folds, args.checkpoint)
    except UserError:
        raise
    except Exception as error:  # nnU-Net takes whatever its files lack for a mistake of its own
        raise UserError(f"the model in {model} cannot be loaded: {in_one_sentence(error)}") from error
    args.output.mkdir(parents=True, exist_ok=True)
    previous = args.prev_stage_predictions and str(args.prev_stage_predictions)
    outputs = {case: args.output / f"{case}{ending}" for case in list(channels)[args.part_id :: args.num_parts]}
    before = {case: _written(file) for case, file in outputs.items()}
    try:
        predictor.predict_from_files(
            str(args.input),
            str(args.output),
            save_probabilities=args.save_probabilities,
            overwrite=not args.continue_prediction,
            num_processes_preprocessing=args.npp,
            num_processes_segmentation_export=args.nps,
            folder_with_segs_from_prev_stage=previous,
            num_parts=args.num_parts,
            part_id=args.part_id,
        )
        return
    except UserError:  # names the cases that were left out
        raise
    except Exception as error:
        reason = in_one_sentence(error)
    # processes that were ended while they wrote have left files that are new, but not whole
    left = [
        case
        for case, file in outputs.items()
        if (_written(file) == before[case] and not args.continue_prediction)
        or not predictor.is_finished(str(args.output / case), args.save_probabilities)
    ]
    print(
        f"sam2_3dmed predict: nnU-Net's loop ended ({reason.rstrip('.')}); predicting {len(left)} of {len(outputs)} "
        "cases one by one.",
        file=sys.stderr,
    )
    failed = []
    for case in left:
        try:
            earlier = [args.prev_stage_predictions / f"{case}{ending}"] if previous else []
            check_images([*channels[case], *earlier])
            predictor.predict_from_files_sequential(
                [[str(file) for file in channels[case]]],
                [str(args.output / case)],
                save_probabilities=args.save_probabilities,
                overwrite=True,
                folder_with_segs_from_prev_stage=previous,
            )
        except Exception as error:
            failed.append(case)
            print(f"sam2_3dmed predict: {case}: {in_one_sentence(error)}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {len(outputs)} cases failed, for the reasons above: {', '.join(failed)}.")


def _check_numbers(args: argparse.Namespace) -> None:
    if not 0 < args.step_size <= 1:
        raise UserError(f"-step_size is {args.step_size:g}, expected more than 0 and at most 1.")
    for name, number in (
        ("--windows", args.windows),
        ("-npp", args.npp),
        ("-nps", args.nps),
        ("-num_parts", args.num_parts),
    ):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}, expected 1 or more.")
    if not 0 <= args.part_id < args.num_parts:
        raise UserError(
            f"-part_id is {args.part_id}, expected 0 to {args.num_parts - 1} for -num_parts {args.num_parts}."
        )


def _model_folder(args: argparse.Namespace) -> Path:
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, nnunet_folder, read_plans_file

    if (args.model is None) == (args.dataset is None):
        raise UserError("expected either -d, the dataset that the model was trained on, or -m, its results folder.")
    if args.model is not None:
        folder = args.model
    else:
        name = f"{args.trainer}__{args.plans}__{args.configuration}"
        folder = nnunet_folder("nnUNet_results") / dataset_name(args.dataset) / name
    missing = [file for file in ("plans.json", "dataset.json") if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {missing[0]}, expected the results folder of a trained model: check -d, -c, -tr and -p, "
            "or -m."
        )
    read_plans_file(folder / "plans.json", "take it from the model that was trained")
    return folder


def _folds(model: Path, wanted: Sequence[str] | None, checkpoint: str) -> list[str]:
    """The folds to predict with; those that are trained are named if one is not."""
    found = (file.parent.name.removeprefix("fold_") for file in model.glob(f"fold_*/{checkpoint}"))
    trained = sorted(fold for fold in found if fold.isdigit() or fold == "all")
    numbered = [fold for fold in trained if fold != "all"]
    folds = list(wanted) if wanted else numbered or trained
    missing = [fold for fold in folds if fold not in trained]
    if missing or not folds:
        fold = missing[0] if missing else "0"
        there = f"trained: {', '.join(trained)}" if trained else "no fold is trained"
        raise UserError(
            f"{model / f'fold_{fold}' / checkpoint} does not exist ({there}): train it, or check -f and -chk."
        )
    return folds


def _images(model: Path, folder: Path) -> tuple[str, dict[str, list[Path]]]:
    """The ending of the images, and the files of each case's channels, in nnU-Net's order.

    Raises:
        UserError: there are none, or a case has other channels than the model was trained with.
    """
    from nnunetv2_sam2_3dmed.nnunet.folders import read_dataset_json
    from nnunetv2_sam2_3dmed.nnunet.raw_files import cases_in

    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder, expected one with the images to predict (-i).")
    dataset_json = read_dataset_json(model / "dataset.json", "take it from the model that was trained")
    ending = dataset_json["file_ending"]
    cases = cases_in(folder, ending)
    if not any(files[0].name.endswith(f"_0000{ending}") for files in cases.values()):
        raise UserError(
            f"{folder} holds no image CASE_0000{ending}, expected the file format and the names that the model was "
            "trained with: one file per channel, numbered _0000, _0001, and so on."
        )
    names = dataset_json.get("channel_names") or dataset_json.get("modality")
    if names:
        numbers = [f"_{number:04d}" for number in range(len(names))]
        for case, files in cases.items():
            if [file.name.removesuffix(ending)[-5:] for file in files] != numbers:
                raise UserError(
                    f"the case {case} in {folder} has the files {', '.join(file.name for file in files)}, but the "
                    f"model was trained with {len(names)} channels: expected {', '.join(numbers)}."
                )
    return ending, cases


def _written(file: Path) -> int | None:
    """The time at which a file was written; None where there is none."""
    return file.stat().st_mtime_ns if file.is_file() else None
