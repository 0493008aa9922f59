"""Backward without autograd's engine, which asks the driver for each device of a graph."""

from __future__ import annotations

from unittest.mock import patch

import torch


# checkpoints repeat what they left out once for each run of the engine, of which they ask the number
@patch.object(torch._C, "_current_graph_task_id", lambda: 1)
def walk_back(result: torch.Tensor) -> None:
    """As ``result.backward()``: runs each node once all gradients for it are there. Hooks of tensors do not run."""
    root = result.grad_fn
    assert root is not None
    waiting: dict[object, int] = {}
    reached, found = [root], {root}
    while reached:
        for node, _ in reached.pop().next_functions:
            if node is not None:
                waiting[node] = waiting.get(node, 0) + 1
                if node not in found:
                    found.add(node)
                    reached.append(node)
    gradients: dict[object, dict[int, torch.Tensor]] = {root: {0: torch.ones_like(result)}}
    ready = [root]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            given = gradients.pop(node, {})
            made = node(*(given.get(i) for i in range(len(node._input_metadata)))) if given else ()
            made = made if isinstance(made, tuple) else (made,)
            for number, (after, index) in enumerate(node.next_functions):
                if after is None:
                    continue
                if number < len(made) and made[number] is not None:
                    _add(gradients.setdefault(after, {}), index, made[number], after._input_metadata[index])
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)


def _add(gradients: dict[int, torch.Tensor], index: int, gradient: torch.Tensor, wanted) -> None:
    """Add a gradient in the shape and precision of its tensor, as the engine does after broadcasting."""
    if tuple(gradient.shape) != tuple(wanted.shape):
        gradient = gradient.sum_to_size(tuple(wanted.shape))
    gradient = gradient.to(wanted.dtype)
    gradients[index] = gradients[index] + gradient if index in gradients else gradient
