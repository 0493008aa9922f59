"""Benchmark of prompted segmentation on the cases of an nnU-Net dataset."""

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
from nnunetv2_sam2_3dmed.evaluation.published_prompts import ALL, SALIENT
from nnunetv2_sam2_3dmed.images.masks import dice
from nnunetv2_sam2_3dmed.images.volumes import write_segmentation
from nnunetv2_sam2_3dmed.images.windows import AUTO
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Interaction, Measured, Score
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol, Turn
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import middle_slice
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser

SALIENT_VOXELS = 256  # slices of arXiv 2408.02635's salient area have more voxels of the object
AREAS = (ALL, SALIENT)


@dataclass(frozen=True)
class PromptBenchmark:
    """A benchmark and its settings.

    Attributes:
        session: session with the model.
        classes: label values of each class or region.
        values: value that each class is written as.
        ignore_label: label value without ground truth, or None.
        tolerance_mm: tolerance of NSD.
        axis: array axis along which the slices lie; None for the one that the model was trained on.
        seed: random seed; each object has its own generator, independent of other cases and protocols.
        file_ending: file ending of the masks.
        described: the model and all options, written beside the masks.
        window: of intensities, as for ``InteractiveSession.set_image``.
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
    window: str | tuple[float, float] = AUTO

    def run(
        self,
        cases: Sequence[RawCase],
        protocols: Sequence[Protocol],
        folder: Path,
        progress: Callable[[str], None] = lambda line: None,
        earlier: Measured | None = None,
        keep: Callable[[Measured], None] = lambda measured: None,
    ) -> Measured:
        """Prompt all objects of all cases; write masks as ``folder/PROTOCOL/CASE`` with the file ending.

        A case that fails with any error is left out with all its rows, and named in ``failed``.

        Args:
            cases: the cases.
            protocols: the ways to prompt them.
            folder: output folder of the masks.
            progress: callback for one line per case.
            earlier: measurements of this run before an interruption; its cases are finished.
            keep: callback for all measurements so far, called after each case.

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
                    SimulatedUser(self.session, raw, self.classes, self.ignore_label, self.axis, self.window),
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

    def _measure(self, user: SimulatedUser, protocols: Sequence[Protocol], folder: Path, measured: Measured) -> None:
        start = time.perf_counter()
        self.session.prepare(user.axis)
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)  # encoding may still be running
        seconds = time.perf_counter() - start
        absent = [name for number, name in enumerate(self.classes, start=1) if number not in user.gt]
        if absent:
            measured.absent[user.case.name] = absent
        for protocol in protocols:
            self._run(user, protocol, folder, measured)
        measured.encoding_seconds[user.case.name] = seconds

    def _run(self, user: SimulatedUser, protocol: Protocol, folder: Path, measured: Measured) -> None:
        self.session.reset()
        names = list(self.classes)
        for number, gt in user.gt.items():
            rng = np.random.default_rng([self.seed, zlib.crc32(user.case.name.encode()), number])
            about = (protocol.name, user.case.name, names[number - 1])
            index, seconds = middle_slice(gt), 0.0
            turn: Turn | None = None
            for turn in protocol.interact(user, number, rng):
                seconds += turn.seconds
                measured.interactions.append(
                    Interaction(
                        *about,
                        turn.number,
                        turn.prompts,
                        turn.rejected,
                        dice(gt, turn.found),
                        dice(gt[index], turn.found[index]),
                        turn.seconds,
                    )
                )
            assert turn is not None, "without prompts the object is missing, which is an error to click on"
            for area, metrics in self._scored(user, gt, turn.found).items():
                measured.scores.append(Score(*about, area, metrics, turn.prompts, turn.rejected, seconds))
        labels = user.label_map(self.values)
        write_segmentation(folder / protocol.name / f"{user.case.name}{self.file_ending}", labels, user.image)

    def _scored(self, user: SimulatedUser, gt: np.ndarray, found: np.ndarray) -> dict[str, MaskMetrics]:
        """Return the metrics by area; an object without large slices has no salient area."""
        spacing = [user.image.spacing[axis] for axis in user.view.order]
        scores = {ALL: compute_metrics(gt, found, spacing, self.tolerance_mm)}
        large = gt.sum(axis=(1, 2)) > SALIENT_VOXELS
        if large.any():
            only = large[:, None, None]
            scores[SALIENT] = compute_metrics(gt & only, found & only, spacing, self.tolerance_mm)
        return scores
