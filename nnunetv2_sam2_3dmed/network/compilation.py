"""torch.compile for the parts of the network that are computed slice by slice."""

from __future__ import annotations

import warnings
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


EAGER = Compiled.EAGER


class _Compiler:
    """State of this process, which stops compiling at the first failure."""

    given_up = False


def give_up(error: Exception) -> None:
    """Stop compiling in this process, and warn."""
    _Compiler.given_up = True
    warnings.warn(f"torch.compile failed, and the network goes on without it, more slowly: {error}", stacklevel=2)


def has_given_up() -> bool:
    """Return True if compiling has failed in this process."""
    return _Compiler.given_up


def compiled_function(function: Function, how: Compiled) -> Function:
    """Return ``function`` compiled or as it is; where compiling fails, it runs as it is.

    Args:
        function: a module's function; it takes the module, whose parameters become inputs of the graph, as an argument,
            so that modules of the same structure share what was compiled.
        how: how to run it.
    """
    return function if how == EAGER or has_given_up() else _compile(function, BACKEND)


@cache
def _compile(function: Function, backend: str | Callable) -> Function:
    compiled = torch.compile(function, fullgraph=True, backend=backend)

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            # the limit by the name that older versions have as well. And no graph is split for the sake of
            # DistributedDataParallel: a gradient is complete, and can be sent, only after the last slice's backward
            # pass, however small the graphs are
            with torch._dynamo.config.patch(cache_size_limit=_MOST_VERSIONS, optimize_ddp=False):
                return compiled(*args, **kwargs)
        except compiler_errors() as error:
            give_up(error)
        return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def compiler_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of the compiler, not including running out of memory."""
    from torch._dynamo import exc

    return exc.TorchDynamoException, getattr(exc, "FailOnRecompileLimitHit", exc.TorchDynamoException)


def in_usual_order(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` with the strides of a fresh one, copied only where it lies in memory in another order.

    A graph is made for the strides that it saw, also for those of axes of size 1, which may be anything.
    """
    return tensor.flatten().view(tensor.shape)


def mark_dynamic(tensor: torch.Tensor, axis: int) -> None:
    """Make one graph serve all sizes of an axis."""
    torch._dynamo.maybe_mark_dynamic(tensor, axis)


def unbind_slices(level: torch.Tensor, compiled: Compiled) -> tuple[torch.Tensor, ...]:
    """Split a level (B, D, C, H, W) into slices (B, C, H, W), in one operation, so that backward joins them once.

    For compiled code, channels come last in memory, as the trunk has them, and strides depend neither on the depth nor
    on who made the level: one graph serves training, validation and windows from the cache of slices.
    """
    if compiled == EAGER:
        return level.unbind(1)
    return in_usual_order(level.permute(1, 0, 3, 4, 2)).permute(0, 1, 4, 2, 3).unbind()


def any_number_of_tokens(spatial: torch.Tensor, pointers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Prepare tokens (N, B, M) for code that is compiled once for all N."""
    spatial, pointers = in_usual_order(spatial), in_usual_order(pointers)
    mark_dynamic(spatial, 0)
    mark_dynamic(pointers, 0)
    return spatial, pointers
