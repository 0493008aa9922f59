"""SAM 2 in training with prompts: an answer on one slice of a stack, propagated both ways with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.attention import attention_kernels
from nnunetv2_sam2_3dmed.network.checkpointing import recomputed, recomputed_parts
from nnunetv2_sam2_3dmed.network.clicks import DRAWS, NO_POINT, random_clicks
from nnunetv2_sam2_3dmed.network.fresh_attention import attend_to_places
from nnunetv2_sam2_3dmed.network.fresh_trunk import fit_windows, initialise_positions, keep_steady
from nnunetv2_sam2_3dmed.network.precision import autocast
from nnunetv2_sam2_3dmed.network.prompt_step import Heads, remember_slice, segment_slice
from nnunetv2_sam2_3dmed.network.resizing import LARGEST_LOGIT, logits_at
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, SAM2Base, build_sam2_base
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures

ABSENT = -1024.0  # SAM 2's logits where it sees no object
# SAM 2 scales the distances of object pointers by the number of slices, at most 16: a stack stands for a volume that
# has as many
_SLICES_OF_A_VOLUME = 16


class StackPrompts(NamedTuple):
    """B stacks of D slices, N objects in them, and a prompt on one slice for each object.

    The order of slices is decided on the host, and so ``real``, ``stacks`` and ``slices`` are NumPy's: reading them
    from the device would wait for all queued work.

    Attributes:
        images: (B, D, 3, S, S), as the image encoder expects them.
        real: (B, D), bool; False for slices that are padding.
        gt: (N, D, H, W), bool, in voxels.
        counted: (N, D, H, W), bool; False where the ground truth is unknown.
        stacks: (N,), index of each object's stack.
        slices: (N,), index of the slice with its prompt.
        points: (N, P, 2), x and y in pixels of the images; None where masks are given.
        labels: (N, P), as SAM 2 numbers them: 1 inside, 0 outside, 2 and 3 the corners of a box; or None.
        masks: (N, 1, S, S), float, 0 or 1; or None.
        corrections: number of successive clicks on errors of the prompted slice.
        rng: draws the places of these clicks.
        videos: those of the B stacks that are propagated forward in time only.
        later: number of successive clicks on errors of one more slice in each direction, once the propagation has
            reached it.
    """

    images: torch.Tensor
    real: np.ndarray
    gt: torch.Tensor
    counted: torch.Tensor
    stacks: np.ndarray
    slices: np.ndarray
    points: torch.Tensor | None
    labels: torch.Tensor | None
    masks: torch.Tensor | None
    corrections: int
    rng: np.random.Generator
    videos: frozenset[int] = frozenset()
    later: int = 0


class Answer(NamedTuple):
    """The network's answer for n objects, each on one slice.

    Attributes:
        objects: (n,), indices of the N objects.
        slices: (n,), indices of the D slices.
        candidates: (n, M, S, S), float, logits of SAM 2's one or three masks; in training also where it sees nothing.
        expected_iou: (n, M), predicted IoU of these masks.
        presence: (n, 1), logits of the object being there.
        logits: (n, 1, S/4, S/4), float, of the mask that counts.
    """

    objects: torch.Tensor
    slices: torch.Tensor
    candidates: torch.Tensor
    expected_iou: torch.Tensor
    presence: torch.Tensor
    logits: torch.Tensor


class _Memory(NamedTuple):
    """A ``prompt_step.SliceMemory`` of m objects."""

    memory: torch.Tensor
    pointer: torch.Tensor

    def of(self, rows: Any) -> _Memory:
        return _Memory(self.memory[rows], self.pointer[rows])


class _Turn(NamedTuple):
    """Objects that are segmented at once, one slice each; all (n,), int64.

    Attributes:
        objects: indices of the N objects.
        slices: indices of the D slices.
        rows: indices of the B * D slices.
    """

    objects: torch.Tensor
    slices: torch.Tensor
    rows: torch.Tensor


def copy_to(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy numbers of the host to ``device``, on a GPU without waiting for its queued work."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class PromptableSAM2(SAM2Base):
    """SAM 2, whose ``forward`` answers prompts on stacks. Its parameters are SAM 2's by name and shape.

    In eval mode its steps are SAM 2's own. In training, masks have a gradient also where the object is wrongly taken
    to be absent.

    Attributes:
        precision: see ``precision.autocast``.
        steady_features: see :func:`build_promptable_sam2`.
        scale_gradient: scales a gradient as the losses are scaled, for float16; see ``fresh_trunk.keep_steady``.
        activation_checkpointing: see :func:`build_promptable_sam2`.
        weights_given: weights were loaded that did not come from the trainer, which sees to this.
        shown_as: how a trained model expects images, where that is known (see ``intensities``).
    """

    precision: str = "auto"
    steady_features: bool = False
    weights_given: bool = False
    scale_gradient: Callable[[torch.Tensor], torch.Tensor] | None = None
    activation_checkpointing: bool = False
    shown_as: Any = None
    pred_obj_scores: bool

    def forward(self, prompts: StackPrompts) -> list[Answer]:  # type: ignore[override]
        """Return all answers in their order: the prompted slices, corrections, and the other slices with theirs.

        A given mask is no answer. Both directions are alike to SAM 2: the way back is the way forward in the reversed
        stack.

        Raises:
            UserError: there are no prompts, as in nnU-Net's own prediction.
        """
        if not isinstance(prompts, StackPrompts):
            raise UserError(
                "this model segments what a prompt points at, and nnUNetv2_predict has no prompts: use `sam2_3dmed "
                "segment IMAGE -o OUTPUT --box ... --model FOLDER/fold_0/checkpoint_final.pth`."
            )
        device = prompts.images.device
        with autocast(device, self.precision), attention_kernels(device, self._tokens):
            encoded = self._encode(prompts.images)
            answers, memory = self._answer(encoded, prompts)
            return [*answers, *self._propagate(encoded, prompts, memory)]

    # ---- the prompted slices

    def _answer(self, encoded: LevelFeatures, prompts: StackPrompts) -> tuple[list[Answer], _Memory]:
        """The answers to the prompts and to the corrections, and the memory of the last one."""
        (prompted,) = self._turns(prompts, [list(enumerate(prompts.slices.tolist()))])
        features = _rows(encoded, prompted)
        points, labels, previous = prompts.points, prompts.labels, None
        answers: list[Answer] = []
        for turn in range(prompts.corrections + 1):
            given = None if points is None or labels is None else (points, labels)
            heads = segment_slice(
                self, features, 0, _SLICES_OF_A_VOLUME, {}, {}, points=given, mask=prompts.masks, previous=previous
            )
            if prompts.masks is None:
                answers.append(self._as_answer(heads, prompted))
            if turn < prompts.corrections:
                previous = heads.logits.detach().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
                points, labels = self._corrected(prompts, prompted, points, labels, previous)
        return answers, self._remember(features, heads, prompted=True)

    def _corrected(
        self, prompts: StackPrompts, prompted: _Turn, points: Any, labels: Any, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points with one more for each object, on an error of ``logits`` (N, 1, S/4, S/4)."""
        draws = copy_to(prompts.rng.integers(DRAWS, size=len(logits)), logits.device)
        gt, found = self._compared(prompts, prompted, logits)
        rows, columns, said = random_clicks(gt, found, draws)
        more = self._as_points(rows, columns, gt)
        return torch.cat([points, more.to(points)], dim=1), torch.cat([labels, said[:, None].to(labels)], dim=1)

    @staticmethod
    def _compared(prompts: StackPrompts, turn: _Turn, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ground truth and counted voxels of the masks of ``logits`` (n, 1, S/4, S/4); both (n, H, W), bool."""
        gt = prompts.gt[turn.objects, turn.slices]
        found = logits_at(logits, (gt.shape[-2], gt.shape[-1]))[:, 0] > 0
        return gt, found & prompts.counted[turn.objects, turn.slices]

    def _as_points(self, rows: torch.Tensor, columns: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        """Places (n,) in voxels of ``gt`` (n, H, W) as SAM 2's points (n, 1, 2)."""
        height, width = gt.shape[-2:]
        return torch.stack([columns / width, rows / height], dim=1)[:, None] * self.image_size

    # ---- all other slices

    def _propagate(self, encoded: LevelFeatures, prompts: StackPrompts, memory: _Memory) -> list[Answer]:
        """Propagate both directions in one batch of 2N tracks, longest first: the ones still running are a prefix."""
        ways = self._ways(prompts)
        if not ways:
            return []
        longest = len(ways[0][1])
        turns = self._turns(
            prompts, [[(number, way[step]) for number, way in ways if step < len(way)] for step in range(longest)]
        )
        conditioning = {0: memory.of(turns[0].objects)}
        others: dict[int, _Memory] = {}
        answers: list[Answer] = []
        # as distant from the prompt in all tracks, so that they stay one batch
        corrected = int(prompts.rng.integers(1, longest + 1)) if prompts.later else 0
        for step, turn in enumerate(turns, start=1):
            clicks: Sequence[torch.Tensor] = ()
            if step == corrected:
                draws = prompts.rng.integers(DRAWS, size=(prompts.later, len(turn.objects)))
                clicks = list(copy_to(draws, encoded.stride16.device))
            memories = dict(conditioning), dict(others)
            track = partial(self._track, encoded, prompts, turn, step, *memories, step < longest, clicks)
            if self._recomputes:
                given, known = recomputed(track, encoded.stride16, self._tokens)
            else:
                given, known = track()
            answers += given
            if known is not None:
                (conditioning if step == corrected else others)[step] = known
        return answers

    def _track(
        self,
        encoded: LevelFeatures,
        prompts: StackPrompts,
        turn: _Turn,
        step: int,
        conditioning: dict[int, _Memory],
        others: dict[int, _Memory],
        remembered: bool,
        clicks: Sequence[torch.Tensor],
    ) -> tuple[list[Answer], _Memory | None]:
        """The answers for slices ``step`` slices away from their prompts, and their memory.

        As SAM 2 is trained: clicks correct the mask that came from the memories, and the corrected slice is from then
        on remembered like a prompted one.

        Args:
            encoded: features of all slices.
            prompts: the stacks, with the ground truth.
            turn: objects and their slices.
            step: distance from the prompts.
            conditioning: memories of the prompted slices, and of those corrected before, by step.
            others: memories of the slices between.
            remembered: the memory is needed.
            clicks: for each click on errors its draws (n,), see :func:`random_clicks`.
        """
        running = slice(len(turn.objects))
        prompted, before = ({k: known.of(running) for k, known in some.items()} for some in (conditioning, others))
        features = _rows(encoded, turn)
        segment = partial(segment_slice, self, features, step, _SLICES_OF_A_VOLUME, prompted, before)
        heads = segment()
        answers = [self._as_answer(heads, turn)]
        points = labels = None
        for draws in clicks:
            previous = heads.logits.detach().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
            more, said = self._correcting(prompts, turn, draws, previous)
            points = more if points is None else torch.cat([points, more], dim=1)
            labels = said if labels is None else torch.cat([labels, said], dim=1)
            heads = segment(points=(points, labels), previous=previous)
            answers.append(self._as_answer(heads, turn))
        memory = self._remember(features, heads, prompted=len(clicks) > 0) if remembered else None
        return answers, memory

    def _correcting(
        self, prompts: StackPrompts, turn: _Turn, draws: torch.Tensor, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A point (n, 1, 2) on an error of each mask of ``logits`` and its label (n, 1), -1 for none without errors.

        Where nothing is wrong, SAM 2's training clicks beside the object; here, as in use, nobody clicks.
        """
        gt, found = self._compared(prompts, turn, logits)
        wrong = (gt ^ found).flatten(1).any(dim=1)
        # somewhere to draw from, also without object and error
        rows, columns, said = random_clicks(gt | ~wrong[:, None, None], found, draws)
        return self._as_points(rows, columns, gt), torch.where(wrong, said, NO_POINT)[:, None].int()

    @staticmethod
    def _ways(prompts: StackPrompts) -> list[tuple[int, list[int]]]:
        """List the slices of each object forward from its prompt and, but for videos, backward.

        The longest come first.
        """
        ways = []
        for number, (stack, start) in enumerate(zip(prompts.stacks.tolist(), prompts.slices.tolist())):
            backward = range(0) if stack in prompts.videos else range(start - 1, -1, -1)
            for way in (range(start + 1, prompts.real.shape[1]), backward):
                # padding lies at the ends of a stack
                reached = [index for index in way if prompts.real[stack, index]]
                if reached:
                    ways.append((number, reached))
        return sorted(ways, key=lambda way: -len(way[1]))

    @staticmethod
    def _turns(prompts: StackPrompts, turns: Sequence[Sequence[tuple[int, int]]]) -> list[_Turn]:
        """Objects and their slices, turn by turn, on the device: all of them in one copy."""
        objects, slices = np.array([one for turn in turns for one in turn]).T
        rows = prompts.stacks[objects] * prompts.images.shape[1] + slices
        table = copy_to(np.stack([objects, slices, rows]), prompts.images.device)
        return [_Turn(*part) for part in table.split([len(turn) for turn in turns], dim=1)]

    # ---- SAM 2's steps

    def _encode(self, images: torch.Tensor) -> LevelFeatures:
        """Features of B * D slices."""
        images = images.flatten(0, 1)
        if self._recomputes:
            parts = [
                recomputed(partial(self.forward_image, part), part, self._tokens) for part in recomputed_parts(images)
            ]
        else:
            parts = [self.forward_image(images)]
        levels = [torch.cat(same) for same in zip(*(part["backbone_fpn"] for part in parts), strict=True)]
        if self.steady_features:
            keep_steady(levels, self.scale_gradient)
        return LevelFeatures._make(levels)

    @property
    def _recomputes(self) -> bool:
        return self.activation_checkpointing and torch.is_grad_enabled()

    @property
    def _tokens(self) -> int:
        """Stride-16 features of a slice."""
        return (self.image_size // STRIDE) ** 2

    def _forward_sam_heads(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        """SAM 2's heads; in training, a predicted absence empties the remembered masks, but not the candidates.

        SAM 2 replaces all masks by a constant where it predicts that the object is absent: they then have no gradient,
        and a loss of hundreds. A wrong prediction of absence is penalised by the loss of the presence alone.
        """
        if not (self.training and self.pred_obj_scores):
            return super()._forward_sam_heads(*args, **kwargs)
        self.pred_obj_scores = False
        try:
            heads = super()._forward_sam_heads(*args, **kwargs)
        finally:
            self.pred_obj_scores = True
        candidates, large_candidates, ious, logits, large, pointer, presence = heads
        there = (presence > 0).to(pointer.dtype)
        pointer = there * pointer + (1 - there) * self.no_obj_ptr
        shown = there.bool()[..., None, None]
        logits, large = torch.where(shown, logits, ABSENT), torch.where(shown, large, ABSENT)
        return candidates, large_candidates, ious, logits, large, pointer, presence

    def _remember(self, features: LevelFeatures, heads: Heads, prompted: bool) -> _Memory:
        return _Memory(remember_slice(self, features, heads.logits, heads.presence, prompted), heads.pointer)

    def _as_answer(self, heads: Heads, turn: _Turn) -> Answer:
        candidates = heads.candidates
        if not self.training:
            # the constant of an absent object would drown all else in a validation loss
            candidates = candidates.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return Answer(
            turn.objects,
            turn.slices,
            candidates.float(),
            heads.expected_iou.float(),
            heads.presence.float(),
            heads.logits.float(),
        )


def _rows(encoded: LevelFeatures, turn: _Turn) -> LevelFeatures:
    """The features of the turn's slices."""
    return LevelFeatures._make(level[turn.rows] for level in encoded)


def build_promptable_sam2(
    backbone: str,
    image_size: int,
    num_memories: int = 7,
    dropout: float = 0.1,
    fitted_windows: bool = False,
    precision: str = "auto",
    several_candidates: bool = True,
    steady_features: bool = False,
    activation_checkpointing: bool = False,
) -> PromptableSAM2:
    """Build SAM 2 for prompts, with fresh weights.

    Args:
        backbone: one of ``sam2_modules.BACKBONES``.
        image_size: S, a multiple of 32.
        num_memories: number of slices that memory attention looks back to; 7 for SAM 2's weights.
        dropout: in memory attention.
        fitted_windows: the trunk's attention windows are never larger than the image (see ``fresh_trunk``).
        precision: one of ``precision.PRECISIONS``.
        several_candidates: as in SAM 2, predict three masks for a single click and for slices without prompts; the best
            one is trained, and the one with the largest predicted IoU is used. With fresh weights, each of the three
            specialises in one of the objects, whatever the prompt.
        steady_features: in training, keep the image encoder's features from becoming constant or growing (see
            ``fresh_trunk``); with fresh weights they do, and prompts and memories then have no effect.
        activation_checkpointing: train in less memory and more time: keep only the answers and memories of propagated
            slices and the results of the image encoder, and recompute the rest in backward.

    Raises:
        ValueError: an argument has a value that cannot work; the message names it.
    """
    network = build_sam2_base(backbone, image_size, num_memories, dropout, network=PromptableSAM2)
    network.precision = precision
    network.multimask_output_in_sam = several_candidates
    network.steady_features = steady_features
    network.activation_checkpointing = activation_checkpointing
    initialise_positions(network.image_encoder.trunk)
    attend_to_places(network)
    if fitted_windows:
        fit_windows(network.image_encoder.trunk, image_size)
    # SAM 2 has this embedding, but no use for it where the first slice goes without memory attention
    network.no_mem_pos_enc.requires_grad_(False)
    return network
