"""Gradients of a training step as a CUDA graph: recorded once, then replayed in one launch.

A step of SAM2-3dMed is tens of thousands of small operations, slice after slice, and a GPU does each in less time than
the processor needs to launch it. A recorded step is launched as a whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

# steps before the recording, in which libraries choose their kernels and torch.compile compiles
WARM_UP = 3
# until all steps are replays: the last two record, and check the recording with another batch
STEPS_UNTIL_REPLAYED = WARM_UP + 2
# ||difference|| / ||gradients|| of a replay and of the same step without a graph; in bfloat16 it is 0.002 at most
# (benchmarks/results/cuda_check.json), as that of the same step computed twice
TOLERATED = 0.1

Gradients = Callable[[torch.Tensor, torch.Tensor], Any]


@dataclass
class _Recording:
    """A recorded step.

    Attributes:
        replay: computes it again.
        inputs: images and target, which it reads.
        terms: of the loss, which it overwrites.
        gradients: of each parameter, which it overwrites; None of those that have none.
        state: of what it was recorded with.
        checked: a replay was seen to be right.
    """

    replay: Callable[[], None]
    inputs: tuple[torch.Tensor, torch.Tensor]
    terms: Any
    gradients: list[torch.Tensor | None]
    state: object
    checked: bool = False

    def fits(self, *given: torch.Tensor) -> bool:
        pairs = zip(self.inputs, given, strict=True)
        return all(static.shape == tensor.shape and static.dtype == tensor.dtype for static, tensor in pairs)


class GraphedStep:
    """Gradients of batches: of the first few computed as usual, then by replaying a recording.

    A graph repeats the same operations on the same memory. Random numbers are new in each replay. A batch of another
    shape is computed as usual. So is every batch from then on where recording fails, where the first replay gives
    other gradients than the step without a graph, or where what was recorded no longer holds: parameters begin or cease
    to train or are replaced, or the settings change.

    Args:
        gradients: computes the terms of the loss, a named tuple of tensors and None, of images and target on the
            device, and leaves the gradients of the parameters in ``grad``, which it sets to None first. It must not
            wait for the device, and must do the same with each batch of the same shape.
        parameters: those of the network.
        failed: told why steps are not replayed, or no longer.
        settings: gives the numbers that ``gradients`` takes from elsewhere, such as the loss's weights.
    """

    def __init__(
        self,
        gradients: Gradients,
        parameters: Iterable[torch.nn.Parameter],
        failed: Callable[[Exception], None],
        settings: Callable[[], object] = lambda: None,
    ):
        self._compute = gradients
        self._parameters = list(parameters)
        self._failed = failed
        self._settings = settings
        self._steps_before = WARM_UP  # the recording; below 0, never again
        self._recording: _Recording | None = None

    def __call__(self, data: torch.Tensor, target: torch.Tensor) -> Any:
        """Compute the gradients of a batch on the device.

        Args:
            data: (B, C, D, H, W).
            target: (B, 1 or number of regions, D, H, W).

        Returns:
            The terms of the loss; those of a replay are overwritten by the next.
        """
        recording = self._recording
        if recording is not None and recording.state != self._state():
            self._give_up(RuntimeError("the parameters that train, or the loss's settings, have changed"))
            recording = None
        if recording is None and self._steps_before == 0:
            recording = self._record(data, target)
            if recording is not None:  # to compute this batch as usual could need the memory that is reserved now
                return self._replayed(recording, data, target)
        if recording is None or not recording.fits(data, target):
            self._steps_before -= 1
            return self._compute(data, target)
        return self._replayed(recording, data, target) if recording.checked else self._check(recording, data, target)

    def _state(self) -> object:
        return [(parameter.requires_grad, parameter.data_ptr()) for parameter in self._parameters], self._settings()

    def _record(self, data: torch.Tensor, target: torch.Tensor) -> _Recording | None:
        inputs, problem = (data.clone(), target.clone()), None
        try:
            terms, replay = record(lambda: self._compute(*inputs), self._forget_gradients, data.device)
        except RuntimeError as error:  # an operation that cannot be recorded, or too little memory
            # of a capture, the cause is in the context; the words alone, since an exception keeps tensors alive
            problem = str(error.__context__ or error)
        if problem is not None:
            self._give_up(RuntimeError(problem))
            return None
        # detached, so that the autograd graph is freed
        terms = terms._make(term if term is None else term.detach() for term in terms)
        gradients = [parameter.grad for parameter in self._parameters]
        self._recording = _Recording(replay, inputs, terms, gradients, self._state())
        return self._recording

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _replayed(self, recording: _Recording, *given: torch.Tensor) -> Any:
        for static, tensor in zip(recording.inputs, given, strict=True):
            static.copy_(tensor)
        # something between two steps may have taken them away
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        recording.replay()
        return recording.terms

    def _check(self, recording: _Recording, data: torch.Tensor, target: torch.Tensor) -> Any:
        """Replay a step and compute it as usual, with the same random numbers.

        Where the memory is not enough for both, nothing is checked. Where gradients overflow, as float16's do until
        their scale has come down, the next batch is checked instead.
        """
        recording.checked = True
        try:
            with torch.random.fork_rng([data.device] if data.device.type == "cuda" else []):
                terms = self._compute(data, target)
        except torch.OutOfMemoryError:
            self._forget_gradients()
            torch.cuda.empty_cache()
            return self._replayed(recording, data, target)
        expected = [parameter.grad for parameter in self._parameters]
        replayed = self._replayed(recording, data, target)
        pairs = [(g, e) for g, e in zip(recording.gradients, expected, strict=True) if g is not None and e is not None]
        norm = torch.nn.utils.get_total_norm([e for _, e in pairs])
        difference = float(torch.nn.utils.get_total_norm([g - e for g, e in pairs]) / norm)
        if difference <= TOLERATED:
            return replayed
        if norm.isfinite():
            self._give_up(RuntimeError(f"a replay's gradients differ by {difference:.2g} of their norm"))
        else:
            recording.checked = False
        for parameter, gradient in zip(self._parameters, expected, strict=True):
            parameter.grad = gradient
        return terms

    def _give_up(self, error: Exception) -> None:
        self._recording, self._steps_before = None, -1
        self._forget_gradients()
        torch.cuda.empty_cache()
        self._failed(error)


def record(
    function: Callable[[], Any], before_capture: Callable[[], None], device: torch.device
) -> tuple[Any, Callable[[], None]]:
    """Record what ``function`` does on a GPU; before that it is run once, whose result is dropped.

    Args:
        function: without arguments; it works on tensors that stay where they are.
        before_capture: called between that run and the recording.
        device: the GPU.

    Returns:
        what ``function`` returns, with values only after the first replay, and the replay.

    Raises:
        RuntimeError: it waits for the device, or the memory runs out.
    """
    graph, stream, current = torch.cuda.CUDAGraph(), torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    # what waits for the device is found here: in a capture it would leave torch in a state that some versions do not
    # recover from
    with torch.cuda.stream(stream), no_waiting():
        function()
    current.wait_stream(stream)
    before_capture()
    # the outer context sets the stream back should the capture fail; other threads may pin memory for the next batches
    # meanwhile
    with (
        torch.cuda.stream(current),
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        result = function()
    return result, graph.replay


@contextmanager
def no_waiting() -> Iterator[None]:
    """A context in which operations that wait for the GPU raise a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode does not find all of them
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
