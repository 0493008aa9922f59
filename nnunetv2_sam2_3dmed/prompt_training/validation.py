"""Final validation of a promptable model, in the format of nnU-Net's validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder

from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts
from nnunetv2_sam2_3dmed.images.volumes import write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import written_values
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, middle_slice
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


def validate_with_boxes(trainer: SAM2_3dMedTrainer, shown_as: ShownAs, cases: Sequence[RawCase]) -> None:
    """Write the folder ``validation`` with its ``summary.json``; each process handles a part of the cases.

    Args:
        trainer: trainer with a promptable network.
        shown_as: intensities and axis of the training.
        cases: validation cases.

    Raises:
        UserError: a file cannot be read.
    """
    trainer.print_to_log_file(
        "Validation with prompts: each object of a case is prompted with its ground truth box on its middle slice. "
        "These scores are not those of a segmentation without prompts."
    )
    network = trainer.network.module if trainer.is_ddp else trainer.network
    network.eval()
    network.shown_as = shown_as
    session = InteractiveSession(network, trainer.device, network.precision)
    processes = dist.get_world_size() if trainer.is_ddp else 1
    classes = foreground_classes(trainer.dataset_json)
    labels = trainer.label_manager
    values = written_values(trainer.dataset_json)
    folder = Path(trainer.output_folder) / "validation"
    if trainer.local_rank == 0:
        note_prompts(folder, "box on the middle slice of each object")
    for done, case in enumerate(cases[trainer.local_rank :: processes], start=1):
        trainer.print_to_log_file(f"prompting {case.name}")
        user = SimulatedUser(session, case, classes, labels.ignore_label)
        for number, gt in user.gt.items():
            index = middle_slice(gt)
            if not user.box(number, index, bounding_box(gt[index])):
                trainer.print_to_log_file(f"{case.name}: object {number} was not seen in its box")
            user.propagate(number)
        file = folder / f"{case.name}{trainer.dataset_json['file_ending']}"
        write_segmentation(file, user.label_map(values), user.image)
        if trainer.is_ddp and done <= len(cases) // processes:
            dist.barrier()  # without this, a process could wait for the others until its timeout
    if trainer.is_ddp:
        dist.barrier()
    if trainer.local_rank == 0:
        _summarize(trainer, folder)


def _summarize(trainer: SAM2_3dMedTrainer, folder: Path) -> None:
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
    trainer.print_to_log_file("Mean Validation Dice with ground truth boxes on the middle slices: ", mean)
