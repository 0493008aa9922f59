"""torch.compile for the parts of the network that are computed slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import torch

# a function is compiled anew for another branch, for training and for prediction, and for another batch size
_MOST_VERSIONS = 64
# torch.compile's own choice, which generates code
BACKEND = "inductor"

Function = TypeVar("Function", bound=Callable[..., Any])


class Compiled(Enum):
    """Ways to compute a slice."""

    EAGER = "eager"
    COMPILED = "compiled"
    # compiled, and all launches of a graph replayed as one CUDA graph
    CUDA_GRAPHS = "cuda_graphs"


EAGER = Compiled.EAGER


def compiled_function(function: Function, how: Compiled) -> Function:
    """``function`` as torch.compile makes it, or as it is.

    Args:
        function: a module's function; it takes the module, whose parameters become inputs of the graph, as an argument,
            so that modules of the same structure share what was compiled.
        how: how to run it.
    """
    return function if how == EAGER else _compile(function, how, BACKEND)


@cache
def _compile(function: Function, how: Compiled, backend: str) -> Function:
    mode = "reduce-overhead" if how == Compiled.CUDA_GRAPHS else None
    compiled = torch.compile(function, fullgraph=True, mode=mode, backend=backend)

    def run(*args: Any, **kwargs: Any) -> Any:
        # no graph is split for the sake of DistributedDataParallel: a gradient is complete, and can be sent, only after
        # the last slice's backward pass, however small the graphs are
        with torch._dynamo.config.patch(recompile_limit=_MOST_VERSIONS, optimize_ddp=False):
            return compiled(*args, **kwargs)

    return run  # type: ignore[return-value]


def in_usual_order(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` with the strides of a fresh one, copied only where it lies in memory in another order.

    A graph is made for the strides that it saw, also for those of axes of size 1, which may be anything.
    """
    return tensor.flatten().view(tensor.shape)


def mark_dynamic(tensor: torch.Tensor, axis: int) -> None:
    """Lets one graph serve all sizes of an axis."""
    torch._dynamo.maybe_mark_dynamic(tensor, axis)
