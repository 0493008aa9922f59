"""The final validation of a model that takes prompts, in the form of nnU-Net's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder

from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts
from nnunetv2_sam2_3dmed.images.volumes import write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.prompt_evaluation.cases import PromptedCase, RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, middle_slice

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer


def validate_with_boxes(trainer: SAM2_PromptTrainer, cases: Sequence[RawCase]) -> None:
    """Writes the folder ``validation`` with its ``summary.json``; each process takes its share of the cases.

    Raises:
        UserError: a file cannot be read.
    """
    trainer.print_to_log_file(
        "Validation with prompts: each object of a case is pointed at by the box around its truth on its middle slice. "
        "These scores are not those of a segmentation without prompts."
    )
    network = trainer.network.module if trainer.is_ddp else trainer.network
    network.eval()
    network.shown_as = trainer.shown_as
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
        prompted = PromptedCase(session, case, classes, labels.ignore_label)
        for number, truth in prompted.truths.items():
            index = middle_slice(truth)
            if not prompted.box(number, index, bounding_box(truth[index])):
                trainer.print_to_log_file(f"{case.name}: object {number} was not seen in its box")
            prompted.propagate(number)
        file = folder / f"{case.name}{trainer.dataset_json['file_ending']}"
        write_segmentation(file, prompted.label_map(values), prompted.image)
        if trainer.is_ddp and done <= len(cases) // processes:
            dist.barrier()  # nobody waits so long for the others that it gives up
    if trainer.is_ddp:
        dist.barrier()
    if trainer.local_rank == 0:
        _summarize(trainer, folder)


def written_values(dataset_json: dict) -> list[int]:
    """What each class is written as: its label, or for regions nnU-Net's ``regions_class_order``."""
    classes = foreground_classes(dataset_json)
    order = dataset_json.get("regions_class_order")
    return [int(v) for v in order] if order else [values[0] for values in classes.values()]


def _summarize(trainer: SAM2_PromptTrainer, folder: Path) -> None:
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
    trainer.print_to_log_file("Mean Validation Dice of true boxes on the middle slices: ", mean)
