"""Final validation of a promptable model, in the format of nnU-Net's validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder

from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts
from nnunetv2_sam2_3dmed.images.volumes import read_volume, write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import written_values
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, middle_slice
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser
from nnunetv2_sam2_3dmed.prompt_training.video_validation import segment_from_boxes
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.video.session import VideoSession

MIDDLE, FIRST = "box on the middle slice of each object", "box on the first frame of each object, propagated forward"


def no_video(case: str) -> bool:
    """Return False: the case is a volume."""
    return False


def validate_with_boxes(
    trainer: SAM2_3dMedTrainer,
    shown_as: ShownAs,
    cases: Sequence[RawCase],
    is_video: Callable[[str], bool] = no_video,
) -> None:
    """Write the folder ``validation`` with its ``summary.json``; each process handles a part of the cases.

    Args:
        trainer: trainer with a promptable network.
        shown_as: intensities and axis of the training.
        cases: validation cases.
        is_video: of a case.

    Raises:
        UserError: a file cannot be read.
    """
    kinds = {is_video(case.name) for case in cases}
    prompts = "; of videos: ".join(text for kind, text in ((False, MIDDLE), (True, FIRST)) if kind in kinds)
    trainer.print_to_log_file(
        f"Validation with prompts: ground truth {prompts}. "
        "These scores are not those of a segmentation without prompts."
    )
    network = trainer.network.module if trainer.is_ddp else trainer.network
    network.eval()
    # raw cases that are pictures already are not made pictures a second time
    network.shown_as = replace(shown_as, pictures=False)
    session = InteractiveSession(network, trainer.device, network.precision)
    processes = dist.get_world_size() if trainer.is_ddp else 1
    classes = foreground_classes(trainer.dataset_json)
    labels = trainer.label_manager
    values = written_values(trainer.dataset_json)
    folder = Path(trainer.output_folder) / "validation"
    if trainer.local_rank == 0:
        note_prompts(folder, prompts)
    for done, case in enumerate(cases[trainer.local_rank :: processes], start=1):
        trainer.print_to_log_file(f"prompting {case.name}")
        file = folder / f"{case.name}{trainer.dataset_json['file_ending']}"
        if is_video(case.name):
            found = segment_from_boxes(
                VideoSession(network, trainer.device, network.precision),
                case,
                3 if shown_as.colour else 1,
                classes,
                values,
                trainer.print_to_log_file,
            )
            write_segmentation(file, found, read_volume(case.label))
            _wait(trainer, done, len(cases))
            continue
        user = SimulatedUser(session, case, classes, labels.ignore_label)
        for number, gt in user.gt.items():
            index = middle_slice(gt)
            if not user.box(number, index, bounding_box(gt[index])):
                trainer.print_to_log_file(f"{case.name}: object {number} was not seen in its box")
            user.propagate(number)
        write_segmentation(file, user.label_map(values), user.image)
        _wait(trainer, done, len(cases))
    if trainer.is_ddp:
        dist.barrier()
    if trainer.local_rank == 0:
        _summarize(trainer, folder, prompts)


def _wait(trainer: SAM2_3dMedTrainer, done: int, count: int) -> None:
    """Wait for the other processes after each case that all have; one could wait until its timeout otherwise."""
    if trainer.is_ddp and done <= count // dist.get_world_size():
        dist.barrier()


def _summarize(trainer: SAM2_3dMedTrainer, folder: Path, prompts: str) -> None:
    labels = trainer.label_manager
    base = trainer.preprocessed_dataset_folder_base
    assert base is not None
    metrics = compute_metrics_on_folder(
        str(Path(base) / "gt_segmentations"),
        str(folder),
        str(folder / "summary.json"),
        trainer.plans_manager.image_reader_writer_class(),
        trainer.dataset_json["file_ending"],
        labels.foreground_regions if labels.has_regions else labels.foreground_labels,
        labels.ignore_label,
        chill=True,
        num_processes=default_num_processes,
    )
    mean = metrics["foreground_mean"]["Dice"]
    trainer.logger.log_summary("final_val/foreground_dice", mean)
    trainer.print_to_log_file("Validation with prompts complete")
    trainer.print_to_log_file(f"Mean Validation Dice with the ground truth {prompts}: ", mean)
