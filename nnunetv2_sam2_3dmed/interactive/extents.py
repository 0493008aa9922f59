"""First and last slice of objects, where annotators name them: propagation goes exactly so far.

MedSAM2's annotators specify the top and bottom slices of a lesion with its 2D mask, which is then propagated to these
two (MedSAM2, Results: efficient 3D lesion annotation).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.results import Progress
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession

Extent = tuple[int, int]


def check_extents(session: InteractiveSession, extents: Mapping[int, Extent]) -> None:
    """Check that all prompts of an object are on its slices, along one axis.

    Args:
        session: session with the prompts.
        extents: first and last slice of objects, both included, as indices along the axis of their prompts.

    Raises:
        PromptError: the first comes after the last, or does not exist, or a prompt is elsewhere.
    """
    for object_id, (first, last) in extents.items():
        own = [prompt for prompt in session.prompts if prompt.object_id == object_id]
        axes = sorted({prompt.axis for prompt in own})
        if len(axes) > 1:
            raise PromptError(
                f"object {object_id} has prompts along axes {' and '.join(map(str, axes))}, but its first and last "
                "slice are of one axis: prompt it along one."
            )
        depth = session.image.shape[axes[0]] if axes else last + 1
        if not 0 <= first <= last < depth:
            raise PromptError(
                f"object {object_id} goes from {first} to {last}, but the first must not be behind the last, and there "
                f"are 0 to {depth - 1}."
            )
        outside = [prompt.index for prompt in own if not first <= prompt.index <= last]
        if outside:
            raise PromptError(
                f"object {object_id} has a prompt at {outside[0]}, but goes from {first} to {last}: correct one of "
                "them."
            )


def propagate_within(
    session: InteractiveSession,
    extents: Mapping[int, Extent],
    slices: Extent | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Propagate all objects, each no further than its first and last slice.

    Args:
        session: session with the prompts.
        extents: see :func:`check_extents`; objects without one have ``slices``.
        slices: first and last slice of all other objects; None for all slices.
        progress: called after each slice; objects of the same slices are propagated together.

    Raises:
        PromptError: see :func:`check_extents` and ``InteractiveSession.propagate``.
    """
    wanted = {object_id: extents.get(object_id, slices) for object_id in session.object_ids}
    check_extents(session, {object_id: extent for object_id, extent in wanted.items() if extent is not None})
    together: dict[Extent | None, list[int]] = defaultdict(list)
    for object_id, extent in wanted.items():
        together[extent].append(object_id)
    for reach, object_ids in together.items():
        session.propagate(object_ids, slices=reach, progress=progress)
