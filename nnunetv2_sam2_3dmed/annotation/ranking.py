"""Segmentation of unlabelled cases, and ranking by the model's disagreement with itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from nnunetv2_sam2_3dmed.annotation.disagreement import (
    NOTHING_IN_COMMON,
    between_directions,
    between_prompts,
    between_slices,
    segmented_objects,
)
from nnunetv2_sam2_3dmed.annotation.outlines import check_masks, outline_dice
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, RankedCase, Round
from nnunetv2_sam2_3dmed.annotation.times import VOLUME, set_machine_seconds, slices_of
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled, in_words, is_same_case
from nnunetv2_sam2_3dmed.errors import in_one_sentence
from nnunetv2_sam2_3dmed.images.volumes import write_segmentation
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.interactive.extents import propagate_within
from nnunetv2_sam2_3dmed.interactive.preview import write_preview
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine, extents_of
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of


@dataclass(frozen=True)
class Ranking:
    """Settings of a ranking.

    Attributes:
        session: session with the model.
        objects: names of the objects by label.
        axis: slice axis of prompts made from predictions; None for the one that the model was trained on.
        window: intensity window, as for ``InteractiveSession.set_image``.
        previews: write a picture of each mask.
    """

    session: InteractiveSession
    objects: Mapping[int, str]
    axis: int | None = None
    window: str | tuple[float, float] = "auto"
    previews: bool = True

    def run(
        self, cases: Sequence[Unlabelled], into: Round, progress: Callable[[str], None] = lambda line: None
    ) -> dict[str, str]:
        """Rank the cases that ``into`` lacks, and save after each.

        Returns:
            Error messages of failed cases by their names; no error stops the other cases.
        """
        failed = {}
        left = [case for case in cases if not is_done(case, into, self.axis)]
        for number, case in enumerate(left, start=1):
            ranked = None
            try:
                ranked = self.rank(case, into)
            except Exception as error:
                failed[case.name] = in_one_sentence(error)
            if ranked is None:
                self.session.clear()  # outside of the handler, whose traceback holds the memory
                progress(f"{number}/{len(left)} {case.name}: {failed[case.name]}")
                continue
            into.add(cases={case.name: ranked})
            progress(f"{number}/{len(left)} {case.name}: disagreement {ranked.disagreement:.3f}")
        return failed

    def rank(self, case: Unlabelled, into: Round) -> RankedCase:
        """Segment a case, write its mask, and measure the disagreement.

        Raises:
            UserError: image, prediction or a prompt is not valid.
        """
        start = time.perf_counter()
        image = self.session.set_image(case.image, window=self.window)
        image_sha256, source = sha256_of(case.image), case.source(self.axis)
        axis = self.session.learned_axis if self.axis is None else self.axis
        prompts = case.prompts(image, list(self.objects), axis)
        if case.outlined:
            check_masks(self.session, into, case.name, prompts)
        self._segment(prompts)
        labels = self.session.labels()
        file = into.mask(case.name)
        write_segmentation(file, labels, image)
        along = prompts[0].axis_in(self.session)
        prompted = slices_of(labels, sorted({line.object_id for line in prompts}), along)
        set_machine_seconds(into.folder, case.name, VOLUME, time.perf_counter() - start, prompted)
        if self.previews:
            write_preview(into.preview(case.name), self.session, labels, along)
        outlines = outline_dice(into, case.name, prompts)
        scores, ends = {}, _ends_of(prompts, self.session)
        for segmented in segmented_objects(self.session, extents_of(prompts)):
            label = segmented.object_id
            every = segmented.on_every_slice
            scores[label] = ObjectScore(
                label,
                self.objects[label],
                (between_slices if every else between_prompts)(self.session, segmented),
                None if every else between_directions(self.session, segmented),
                int((labels == label).sum()),
                outlines.get(label),
                every,
                **ends.get(label, {}),
            )
        for label in {line.object_id for line in prompts} - set(scores):
            unseen = ObjectScore(label, self.objects[label], NOTHING_IN_COMMON, None, 0, outlines.get(label))
            scores[label] = replace(unseen, **ends.get(label, {}))
        return RankedCase(
            str(case.image),
            image_sha256,
            source,
            [in_words(line) for line in prompts],
            sha256_of(file),
            date.today().isoformat(),
            [scores[label] for label in sorted(scores)],
        )

    def _segment(self, prompts: Sequence[PromptLine]) -> None:
        """Prompt and propagate all objects; those that the model does not see are left out."""
        for line in prompts:
            line.add_to(self.session)
        for prompted in self.session.prompts:
            try:
                self.session.predict_slice(prompted.object_id, prompted.axis, prompted.index)
            except PromptError:  # the session took the prompts back
                continue
        if self.session.object_ids:
            propagate_within(self.session, extents_of(prompts))


def _ends_of(prompts: Sequence[PromptLine], session: InteractiveSession) -> dict[int, dict[str, Any]]:
    """Return axis, first and last slice of each object of which a prompt names them, as fields of its score."""
    return {
        line.object_id: {"axis": line.axis_in(session), "first": line.extent[0], "last": line.extent[1]}
        for line in prompts
        if line.extent is not None
    }


def is_done(case: Unlabelled, into: Round, axis: int | None) -> bool:
    """Return if a round has a case already.

    Args:
        case: the case.
        into: the round.
        axis: axis of the :class:`Ranking`.

    Raises:
        UserError: the round has the case with another image or other prompts.
    """
    known = into.cases.get(case.name)
    if known is None or not into.mask(case.name).is_file():
        return False
    return is_same_case(case, known, into.folder, axis)
