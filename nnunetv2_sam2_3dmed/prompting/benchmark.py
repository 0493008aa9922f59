"""Prompted segmentation measured on the cases of an nnU-Net dataset."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics
from nnunetv2_sam2_3dmed.evaluation.prompted import note_prompts
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.volumes import write_segmentation
from nnunetv2_sam2_3dmed.prompting.cases import PromptedCase, RawCase
from nnunetv2_sam2_3dmed.prompting.protocols import Protocol, Round

SALIENT_VOXELS = 256  # of the object, on the slices of the paper's salient area: more than these
ALL, SALIENT = AREAS = ("all", "salient")


@dataclass(frozen=True)
class Score:
    """How well an object was segmented.

    Attributes:
        protocol: name of it.
        case: name of it.
        class_name: of the object.
        area: "all" slices, or the "salient" ones.
        metrics: against the truth.
        prompts: that were given.
        seconds: of all interactions.
    """

    protocol: str
    case: str
    class_name: str
    area: str
    metrics: MaskMetrics
    prompts: int
    seconds: float


@dataclass(frozen=True)
class Interaction:
    """How well an object was segmented after a round.

    Attributes:
        protocol: name of it.
        case: name of it.
        class_name: of the object.
        number: of the round, from 1.
        prompts: given so far.
        dice: of the volume.
        slice_dice: of the middle slice.
        seconds: of this round.
    """

    protocol: str
    case: str
    class_name: str
    number: int
    prompts: int
    dice: float
    slice_dice: float
    seconds: float


@dataclass
class Measured:
    """All that was measured.

    Attributes:
        scores: of the final masks, as they are written.
        interactions: of all rounds.
        encoding_seconds: of the slices of each case, before any prompt.
        absent: classes that a case does not have, and that nothing could be prompted of.
    """

    scores: list[Score] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    encoding_seconds: dict[str, float] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptBenchmark:
    """What is measured and how.

    Attributes:
        session: with the model.
        classes: label values of each class or region.
        values: what each class is written as.
        ignore_label: that nothing is known of, or None.
        tolerance_mm: of NSD.
        axis: of the array along which the slices lie.
        seed: of all that is drawn; each object of a case draws its own, whatever else is run.
        file_ending: of the masks.
    """

    session: InteractiveSession
    classes: Mapping[str, tuple[int, ...]]
    values: Sequence[int]
    ignore_label: int | None
    tolerance_mm: float
    axis: int = 0
    seed: int = 0
    file_ending: str = ".nii.gz"

    def run(
        self,
        cases: Sequence[RawCase],
        protocols: Sequence[Protocol],
        folder: Path,
        progress: Callable[[str], None] = lambda line: None,
    ) -> Measured:
        """Prompts all objects of all cases; writes masks as ``folder/PROTOCOL/CASE`` with the file ending.

        Raises:
            UserError: there are no cases, a file cannot be read, or image and truth lie on different grids.
        """
        if not cases:
            raise UserError("there are no cases to prompt: name other folds.")
        measured = Measured()
        for protocol in protocols:
            note_prompts(folder / protocol.name, protocol.title)
        for number, raw in enumerate(cases, start=1):
            progress(f"{number}/{len(cases)} {raw.name}")
            case = PromptedCase(self.session, raw, self.classes, self.ignore_label, self.axis)
            start = time.perf_counter()
            self.session.prepare(self.axis)
            measured.encoding_seconds[raw.name] = time.perf_counter() - start
            names = list(self.classes)
            absent = [name for k, name in enumerate(names, start=1) if k not in case.truths]
            if absent:
                measured.absent[raw.name] = absent
            for protocol in protocols:
                self._run(case, protocol, folder, measured)
        return measured

    def _run(self, case: PromptedCase, protocol: Protocol, folder: Path, measured: Measured) -> None:
        self.session.reset()
        names = list(self.classes)
        rounds: dict[int, list[Round]] = {}
        for number, truth in case.truths.items():
            rng = np.random.default_rng([self.seed, zlib.crc32(case.case.name.encode()), number])
            rounds[number] = []
            for turn in protocol.interact(case, number, rng):
                rounds[number].append(turn._replace(found=np.zeros(0)))  # masks of all rounds would fill the memory
                measured.interactions.append(
                    self._interaction(protocol.name, case, number, names[number - 1], turn, truth)
                )
        labels = case.label_map(self.values)
        write_segmentation(folder / protocol.name / f"{case.case.name}{self.file_ending}", labels, case.image)
        found = case.view.of(labels)
        for number, truth in case.truths.items():
            prediction = np.isin(found, self.classes[names[number - 1]])
            for area, metrics in self._scored(case, truth, prediction).items():
                measured.scores.append(
                    Score(
                        protocol.name,
                        case.case.name,
                        names[number - 1],
                        area,
                        metrics,
                        rounds[number][-1].prompts if rounds[number] else 0,
                        sum(turn.seconds for turn in rounds[number]),
                    )
                )

    def _scored(self, case: PromptedCase, truth: np.ndarray, prediction: np.ndarray) -> dict[str, MaskMetrics]:
        """Scores by area; an object whose slices are all small has no salient one."""
        if case.counted is not None:
            counted = case.view.of(case.counted)
            truth, prediction = truth & counted, prediction & counted
        spacing = [case.image.spacing[axis] for axis in case.view.order]
        scores = {ALL: compute_metrics(truth, prediction, spacing, self.tolerance_mm)}
        large = truth.sum(axis=(1, 2)) > SALIENT_VOXELS
        if large.any():
            only = large[:, None, None]
            scores[SALIENT] = compute_metrics(truth & only, prediction & only, spacing, self.tolerance_mm)
        return scores

    @staticmethod
    def _interaction(
        protocol: str, case: PromptedCase, number: int, class_name: str, turn: Round, truth: np.ndarray
    ) -> Interaction:
        present = np.flatnonzero(truth.any(axis=(1, 2)))
        index = int(present[len(present) // 2])
        return Interaction(
            protocol,
            case.case.name,
            class_name,
            turn.number,
            turn.prompts,
            dice(truth, turn.found),
            dice(truth[index], turn.found[index]),
            turn.seconds,
        )


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice coefficient of two masks; both empty: 1."""
    total = int(truth.sum()) + int(found.sum())
    return 1.0 if not total else 2 * int((truth & found).sum()) / total
