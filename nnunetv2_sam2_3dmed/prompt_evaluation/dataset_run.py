"""Measurement of a model with prompts on one dataset, from its cases to the files of results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.evaluation.prompted import check_same_run
from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.tolerance import Tolerance
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.windows import AS_PICTURES, AUTO
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.model import model_file
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS, sha256_of
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import written_values
from nnunetv2_sam2_3dmed.nnunet.folds import FILE, Folds, read_folds
from nnunetv2_sam2_3dmed.nnunet.sources import sources_of
from nnunetv2_sam2_3dmed.prompt_evaluation import results
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import PromptBenchmark
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import leakage_warnings
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Measured, read_rows, write_rows
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase

SAM2_IMAGE_SIZE = 1024  # that SAM 2's own weights were trained at


@dataclass(frozen=True)
class DatasetRun:
    """Model, cases and options of a measurement.

    Attributes:
        dataset: the dataset's full name.
        dataset_json: content of its dataset.json.
        cases: the cases.
        protocols: ways to prompt them.
        model: name or file of the model, as for ``load_model``.
        precision: of the session.
        tolerance: of NSD.
        folds: folds that the cases are from, for the record.
        classes: label values of each class; None for the dataset's own classes or regions.
        channel: index of the image channel that is prompted.
        axis: array axis along which the slices lie; None for the one that the model was trained on.
        seed: random seed.
    """

    dataset: str
    dataset_json: Mapping[str, Any]
    cases: Sequence[RawCase]
    protocols: Sequence[Protocol]
    model: str
    precision: str
    tolerance: Tolerance
    folds: Sequence[str]
    classes: Mapping[str, tuple[int, ...]] | None = None
    channel: int = 0
    axis: int | None = None
    seed: int = 0

    def measure(
        self, session: InteractiveSession, output: Path, warnings: Sequence[str], progress: Callable[[str], None]
    ) -> Measured:
        """Measure all cases, or those that an interrupted run has left; write masks, tables and a summary.

        Args:
            session: session with the model.
            output: folder of all files.
            warnings: what to warn of, besides what the model and its image size are warned of here.
            progress: callback for warnings and one line per case.

        Raises:
            UserError: a case is a video, ``output`` has results of another run, or no case can be prompted.
        """
        sources = sources_of(self.dataset_json)
        videos = [case.name for case in self.cases if sources.is_video(case.name)]
        if videos:
            raise UserError(
                f"{videos[0]} of {self.dataset} is a video, which is not prompted as a volume: measure the videos that "
                "it was made of, with --videos, or name other cases with --cases."
            )
        described = self.describe(session)
        begun = check_same_run(output, described["protocols"], described)
        sha256 = described["model_sha256"]
        names = [case.name for case in self.cases]
        folds = folds_of(self.dataset)
        leaks = leakage_warnings(model_file(self.model), sha256, self.dataset, names, folds, sources)
        warnings = [*warnings, *resolution_warnings(self.model, sha256, session.image_size), *leaks]
        for warning in warnings:
            progress(f"warning: {warning}")
        machine = software_and_machine()
        used = {**described, "folds": self.folds, "warnings": warnings, "software_and_machine": machine}
        own = foreground_classes(self.dataset_json) if self.classes is None else self.classes
        benchmark = PromptBenchmark(
            session,
            own,
            written_values(self.dataset_json) if self.classes is None else range(1, len(own) + 1),
            ignore_label(self.dataset_json),
            self.tolerance.mm,
            self.axis,
            self.seed,
            self.dataset_json["file_ending"],
            described,
            AS_PICTURES if sources.pictures else AUTO,
        )

        def keep(measured: Measured) -> None:
            write_rows(output, measured, results.as_json(measured, self.protocols, used))

        earlier = read_rows(output) if begun else None
        measured = benchmark.run(self.cases, self.protocols, output, progress, earlier, keep)
        keep(measured)  # with failures after the last successful case
        tolerance = f"{self.tolerance.mm:g} mm ({self.tolerance.source})"
        text = results.as_markdown(measured, self.protocols, self.dataset, used, tolerance)
        write_text(output / "prompt_benchmark.md", text)
        return measured

    def describe(self, session: InteractiveSession) -> dict[str, Any]:
        """Return everything that the masks and scores depend on."""
        described: dict[str, Any] = {
            "dataset": self.dataset,
            "cases": [case.name for case in self.cases],
            "protocols": [protocol.name for protocol in self.protocols],
            "model": self.model,
            "model_sha256": sha256_of(model_file(self.model)),
            "image_size": session.image_size,
            "device": str(session.device),
            "precision": self.precision,
            "seed": self.seed,
            "axis": "learned" if self.axis is None else self.axis,
            "channel": self.channel,
            "tolerance_mm": self.tolerance.mm,
        }
        if self.classes is not None:
            described["classes"] = {name: list(values) for name, values in self.classes.items()}
        return described


def check_all_measured(measured: Measured, of: int) -> None:
    """Raise an error if cases were left out.

    Raises:
        UserError: cases were.
    """
    if measured.failed:
        raise UserError(
            f"{len(measured.failed)} of {of} cases were left out, for the reasons above: "
            f"{', '.join(measured.failed)}; the same command tries them again."
        )


def resolution_warnings(model: str, sha256: str, image_size: int) -> list[str]:
    """Return a warning if SAM 2's own weights are measured at another image size than that of their training."""
    official = {known.sha256 for known in CHECKPOINTS.values() if known.sha256 is not None}
    if sha256 not in official or image_size == SAM2_IMAGE_SIZE:
        return []
    return [
        f"{model} was trained on images of {SAM2_IMAGE_SIZE} pixels and is measured on {image_size}: set the "
        f"image size to {SAM2_IMAGE_SIZE} (--image-size, or image_size in an experiment's file) for what SAM 2 can do."
    ]


def folds_of(dataset: str) -> Folds | None:
    """Return nnU-Net's folds of a dataset; None if there are none.

    Raises:
        UserError: the file is damaged.
    """
    folder = os.environ.get("nnUNet_preprocessed")
    file = Path(folder or ".") / dataset / FILE
    return read_folds(file) if folder and file.is_file() else None
