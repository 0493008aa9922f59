"""The image and the object that a lease holds, in the protocols with one object at a time."""

from __future__ import annotations

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.windows import AUTO
from nnunetv2_sam2_3dmed.server.leases import Lease
from nnunetv2_sam2_3dmed.server.prompted_object import PromptedObject
from nnunetv2_sam2_3dmed.server.sessions import PooledSession
from nnunetv2_sam2_3dmed.server.state import ServerState


class Opened:
    """Resources of a lease.

    Args:
        session: on the image.
        state: of the server.
        budget_s: see :class:`PromptedObject`.

    Attributes:
        object: the one that is segmented.
    """

    def __init__(self, session: PooledSession, state: ServerState, budget_s: float):
        self.object = PromptedObject(session, state.worker, budget_s)
        self._state = state

    def close(self) -> None:
        """Give the session back."""
        self.object.close()
        self._state.close_session(self.object.session)


def open_image(state: ServerState, lease: Lease, volume: Volume, key: str, budget_s: float) -> None:
    """Open an image for a lease in use, instead of the one before with its prompts and buffer.

    Args:
        state: of the server.
        lease: used by the caller.
        volume: the image.
        key: its ``content_key``.
        budget_s: seconds after which a prediction is answered.

    Raises:
        UserError: the image cannot be shown; the lease then keeps what it had.
    """
    before = lease.holding
    if isinstance(before, Opened) and before.object.session.content == (key, AUTO):
        before.object.reset()
        before.object.buffer = None
        return
    lease.holding = Opened(state.worker.run(lambda: state.sessions.open(volume, key=key)), state, budget_s)
    if before is not None:
        before.close()


def opened(lease: Lease) -> PromptedObject:
    """Return the object of a lease.

    Raises:
        UserError: it has no image.
    """
    if not isinstance(lease.holding, Opened):
        raise UserError("there is no image yet: send one first.")
    return lease.holding.object
