"""Prompted segmentation measured on the cases of an nnU-Net dataset."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts
from nnunetv2_sam2_3dmed.images.volumes import write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.prompt_evaluation.cases import PromptedCase, RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Interaction, Measured, Score
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol, Round
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import middle_slice

SALIENT_VOXELS = 256  # of the object: slices of arXiv 2408.02635's salient area have more
ALL, SALIENT = AREAS = ("all", "salient")


@dataclass(frozen=True)
class PromptBenchmark:
    """What is measured and how.

    Attributes:
        session: with the model.
        classes: label values of each class or region.
        values: what each class is written as.
        ignore_label: that nothing is known of, or None.
        tolerance_mm: of NSD.
        axis: of the array along which the slices lie; None for that which the model has learned.
        seed: of all that is drawn; each object of a case draws its own, whatever else is run.
        file_ending: of the masks.
        described: the model and all options, which is noted beside the masks.
    """

    session: InteractiveSession
    classes: Mapping[str, tuple[int, ...]]
    values: Sequence[int]
    ignore_label: int | None
    tolerance_mm: float
    axis: int | None = None
    seed: int = 0
    file_ending: str = ".nii.gz"
    described: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self,
        cases: Sequence[RawCase],
        protocols: Sequence[Protocol],
        folder: Path,
        progress: Callable[[str], None] = lambda line: None,
        earlier: Measured | None = None,
        keep: Callable[[Measured], None] = lambda measured: None,
    ) -> Measured:
        """Prompts all objects of all cases; writes masks as ``folder/PROTOCOL/CASE`` with the file ending.

        A case that fails, whatever it raised, is left out with all its rows, and told in ``failed``.

        Args:
            cases: to be prompted.
            protocols: how.
            folder: for the masks.
            progress: told what is done.
            earlier: what this run measured before it was ended; its cases are finished.
            keep: called with all that was measured, after each case.

        Raises:
            UserError: there are no cases, or none can be read.
        """
        if not cases:
            raise UserError("there are no cases to prompt: name other folds.")
        measured = Measured() if earlier is None else earlier
        for protocol in protocols:
            note_prompts(folder / protocol.name, protocol.title, self.described)
        for number, raw in enumerate(cases, start=1):
            counted = f"{number}/{len(cases)} {raw.name}"
            if raw.name in measured.encoding_seconds:
                progress(f"{counted}: measured before")
                continue
            progress(counted)
            try:
                self._measure(
                    PromptedCase(self.session, raw, self.classes, self.ignore_label, self.axis),
                    protocols,
                    folder,
                    measured,
                )
            except Exception as error:
                measured.failed[raw.name] = in_one_sentence(error)
            if raw.name in measured.failed:
                self.session.clear()  # outside of the handler, whose traceback holds what is to be freed
                measured.leave_out(raw.name)
                progress(f"{counted}: left out, {measured.failed[raw.name]}")
                continue
            keep(measured)
        if not measured.encoding_seconds:
            raise UserError(f"no case can be prompted: {next(iter(measured.failed.values()))}")
        return measured

    def _measure(self, case: PromptedCase, protocols: Sequence[Protocol], folder: Path, measured: Measured) -> None:
        start = time.perf_counter()
        self.session.prepare(case.axis)
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)  # the device may still be at it
        seconds = time.perf_counter() - start
        absent = [name for number, name in enumerate(self.classes, start=1) if number not in case.truths]
        if absent:
            measured.absent[case.case.name] = absent
        for protocol in protocols:
            self._run(case, protocol, folder, measured)
        measured.encoding_seconds[case.case.name] = seconds

    def _run(self, case: PromptedCase, protocol: Protocol, folder: Path, measured: Measured) -> None:
        self.session.reset()
        names = list(self.classes)
        for number, truth in case.truths.items():
            rng = np.random.default_rng([self.seed, zlib.crc32(case.case.name.encode()), number])
            about = (protocol.name, case.case.name, names[number - 1])
            index, seconds = middle_slice(truth), 0.0
            turn: Round | None = None
            for turn in protocol.interact(case, number, rng):
                seconds += turn.seconds
                measured.interactions.append(
                    Interaction(
                        *about,
                        turn.number,
                        turn.prompts,
                        turn.rejected,
                        dice(truth, turn.found),
                        dice(truth[index], turn.found[index]),
                        turn.seconds,
                    )
                )
            assert turn is not None, "an object that nothing was said of is missing: there is an error to click on"
            for area, metrics in self._scored(case, truth, turn.found).items():
                measured.scores.append(Score(*about, area, metrics, turn.prompts, turn.rejected, seconds))
        labels = case.label_map(self.values)
        write_segmentation(folder / protocol.name / f"{case.case.name}{self.file_ending}", labels, case.image)

    def _scored(self, case: PromptedCase, truth: np.ndarray, found: np.ndarray) -> dict[str, MaskMetrics]:
        """Scores by area; an object whose slices are all small has no salient one."""
        spacing = [case.image.spacing[axis] for axis in case.view.order]
        scores = {ALL: compute_metrics(truth, found, spacing, self.tolerance_mm)}
        large = truth.sum(axis=(1, 2)) > SALIENT_VOXELS
        if large.any():
            only = large[:, None, None]
            scores[SALIENT] = compute_metrics(truth & only, found & only, spacing, self.tolerance_mm)
        return scores


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice coefficient of two masks; both empty: 1."""
    total = int(truth.sum()) + int(found.sum())
    return 1.0 if not total else 2 * int((truth & found).sum()) / total
