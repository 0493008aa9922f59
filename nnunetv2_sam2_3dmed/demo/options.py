"""What the user chose for the demo, and the names that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.demo.holdout import FEWEST_TRAINING_CASES, labelled_cases, split_cases
from nnunetv2_sam2_3dmed.demo.synthetic import TASK_NAME
from nnunetv2_sam2_3dmed.errors import UserError

SYNTHETIC_TRAINING_CASES = 24


@dataclass(frozen=True)
class Method:
    """One of the two that are compared: its name, nnU-Net configuration and trainer."""

    name: str
    configuration: str
    trainer: str

    @property
    def predictions(self) -> str:
        """Where its predictions go, in the demo's folder."""
        return f"predictions/{self.name}"

    def results(self, dataset: str) -> str:
        """Where nnU-Net keeps what it trained, in the demo's folder."""
        return f"nnUNet_results/{dataset}/{self.trainer}__nnUNetPlans__{self.configuration}"


@dataclass(frozen=True)
class DemoOptions:
    """What the user chose.

    Attributes:
        output: folder that everything goes into.
        data: task folder of the Medical Segmentation Decathlon (MSD), or None for the synthetic task.
        minutes: of training per method; both have a trainer named after it.
        device: ``cpu`` or ``cuda``.
        cases: at most so many training cases.
        held_out: number of cases that neither method sees before they are compared on them.
        restart: run steps again that are done.
    """

    output: Path
    data: Path | None = None
    minutes: int = 2
    device: str = "cpu"
    cases: int | None = None
    held_out: int = 4
    restart: bool = False

    @property
    def methods(self) -> tuple[Method, Method]:
        """nnU-Net itself, and SAM2-3dMed from random weights (so that nothing has to be downloaded)."""
        return (
            Method("nnU-Net", "3d_fullres", f"nnUNetTrainer_{self.minutes}minutes"),
            Method("SAM2-3dMed", "3d", f"SAM2_3dMedTrainer_noPretrain_tuned_{self.minutes}minutes"),
        )

    @property
    def plan_options(self) -> tuple[str, ...]:
        """What a CPU needs to get anywhere in minutes; a GPU takes the defaults."""
        return ("--image-size", "128", "--slices", "6", "--batch-size", "2") if self.device == "cpu" else ()

    @property
    def task(self) -> str:
        """MSD's folder name, such as Task90_SyntheticCT."""
        return self.data.name if self.data else TASK_NAME

    @property
    def dataset_id(self) -> int:
        """nnU-Net's number for the task."""
        return int(self.task.removeprefix("Task").split("_")[0])

    @property
    def dataset(self) -> str:
        """nnU-Net's folder name, such as Dataset090_SyntheticCT."""
        return f"Dataset{self.dataset_id:03d}_{self.task.split('_')[1]}"


def training_cases(options: DemoOptions) -> int:
    """Number of training cases that the options lead to.

    Raises:
        UserError: there is no such data, or too few cases.
    """
    if options.held_out < 1:
        raise UserError(f"--held-out {options.held_out}: expected at least one case to compare on.")
    if options.data:
        return len(split_cases(labelled_cases(options.data), options.held_out, options.cases)[0])
    cases = SYNTHETIC_TRAINING_CASES if options.cases is None else options.cases
    if cases < FEWEST_TRAINING_CASES:
        raise UserError(f"--cases {cases}: nnU-Net's five folds need at least {FEWEST_TRAINING_CASES}.")
    return cases
