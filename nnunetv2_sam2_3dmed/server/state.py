"""Parts of a running server that the routes of all protocols share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.windows import AUTO
from nnunetv2_sam2_3dmed.interactive.model import choose_device, load_model
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.server.leases import Leases
from nnunetv2_sam2_3dmed.server.sessions import PooledSession, SessionPool, content_key
from nnunetv2_sam2_3dmed.server.settings import Settings
from nnunetv2_sam2_3dmed.server.worker import Worker


@dataclass(frozen=True)
class ServerState:
    """Parts of a running server.

    Attributes:
        settings: of the server.
        worker: runs whatever touches a session.
        sessions: opened and closed on the worker.
        leases: of all clients.
        model: name of the network for clients, without the folder of its file, which is nobody's business.
    """

    settings: Settings
    worker: Worker
    sessions: SessionPool
    leases: Leases
    model: str

    def open_session(self, volume: Volume, window: str | tuple[float, float] = AUTO) -> PooledSession:
        """Return a session on an image; called on any thread.

        Raises:
            UserError: see ``SessionPool.open``.
        """
        key = content_key(volume)  # takes a second per GB, for which no prediction has to wait
        return self.worker.run(lambda: self.sessions.open(volume, window, key))

    def close_session(self, session: PooledSession) -> None:
        """Give a session back; called on any thread."""
        self.worker.run(lambda: self.sessions.close(session))


def make_state(settings: Settings) -> ServerState:
    """Load the model and start the worker.

    Raises:
        UserError: there is no such model or device.
    """
    device = choose_device(settings.device)
    if isinstance(settings.model, SAM2Base):
        network, name = settings.model, "SAM 2"
    else:
        network, name = load_model(settings.model, settings.image_size), Path(settings.model).name
    pool = SessionPool(network.to(device), device, settings.precision, settings.memory_bytes, settings.sessions)
    leases = Leases(settings.sessions, settings.idle_timeout_s, settings.liveness_timeout_s)
    return ServerState(settings, Worker(pool.trim), pool, leases, name)
