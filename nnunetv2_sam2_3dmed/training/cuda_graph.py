"""Gradients of a training step as a CUDA graph: recorded once, then replayed in one launch.

A step of SAM2-3dMed is tens of thousands of small operations, slice after slice, and a GPU does each in less time than
the processor needs to launch it. A recorded step is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

# steps before the recording, in which libraries choose their kernels and torch.compile compiles
WARM_UP = 3


class GraphedStep:
    """Gradients of one batch after the other, of which the first ones are computed as usual.

    A graph repeats the same operations on the same memory: shapes, the loss's weights and the choice of kernels are
    those of the recording. Random numbers are new in each replay. A batch of another shape is computed as usual, and so
    is everything where recording fails.

    Args:
        gradients: computes the terms of the loss, a named tuple of tensors and None, of images and target on the
            device, and leaves the gradients of the parameters in ``grad``, which it sets to None first. It must not
            wait for the device, and must do the same with each batch of the same shape.
        parameters: those of the network.
        failed: told the error when the step cannot be recorded.
    """

    def __init__(
        self,
        gradients: Callable[[torch.Tensor, torch.Tensor], Any],
        parameters: Iterable[torch.nn.Parameter],
        failed: Callable[[Exception], None],
    ):
        self._compute = gradients
        self._parameters = list(parameters)
        self._failed = failed
        self._steps_before = WARM_UP
        self._replay: Callable[[], None] | None = None
        self._inputs: tuple[torch.Tensor, torch.Tensor]
        self._terms: Any
        self._gradients: list[torch.Tensor | None]

    def __call__(self, data: torch.Tensor, target: torch.Tensor) -> Any:
        """Compute the gradients of a batch on the device.

        Args:
            data: (B, C, D, H, W).
            target: (B, 1 or number of regions, D, H, W).

        Returns:
            The terms of the loss; those of a replay are overwritten by the next.
        """
        if self._replay is None and self._steps_before == 0:
            self._record(data, target)
        if self._replay is None or not self._fits(data, target):
            self._steps_before -= 1
            return self._compute(data, target)
        for static, given in zip(self._inputs, (data, target), strict=True):
            static.copy_(given)
        # something between two steps may have taken them away
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._replay()
        return self._terms

    def _fits(self, data: torch.Tensor, target: torch.Tensor) -> bool:
        pairs = zip(self._inputs, (data, target), strict=True)
        return all(static.shape == given.shape and static.dtype == given.dtype for static, given in pairs)

    def _record(self, data: torch.Tensor, target: torch.Tensor) -> None:
        self._inputs = data.clone(), target.clone()
        try:
            terms, self._replay = record(lambda: self._compute(*self._inputs), data.device)
        except RuntimeError as error:  # an operation that cannot be recorded, or too little memory
            torch.cuda.empty_cache()
            self._failed(error)
            return  # and never again: the count of steps before it goes below 0
        # without the way back to the parameters
        self._terms = terms._make(term if term is None else term.detach() for term in terms)
        self._gradients = [parameter.grad for parameter in self._parameters]


def record(function: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], None]]:
    """Record what ``function`` does on a GPU; it is run once before that, which counts for nothing.

    Args:
        function: without arguments; it works on tensors that stay where they are.
        device: the GPU.

    Returns:
        what ``function`` returns, with values only after the first replay, and the replay.

    Raises:
        RuntimeError: it waits for the device, or the memory runs out.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream(device).wait_stream(stream)
    # other threads may pin memory for the next batches meanwhile
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = function()
    return result, graph.replay
