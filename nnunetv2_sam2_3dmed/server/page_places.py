"""Places of the open pages: each is a lease with uploaded files and, once an image is open, a session."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.server.leases import LeaseGone
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from nnunetv2_sam2_3dmed.server.sessions import content_key

# without a request, in seconds; browsers let pages in the background send once a minute
PATIENCE_S = 300.0


class Place:
    """Place of one page: uploaded files, and an image with its objects.

    Attributes:
        token: of its lease.
        page: the image and its objects; None before one is open.
        folder: of the files that were uploaded for what comes next.
        received: bytes in it.
    """

    def __init__(self, places: Places, token: str):
        self.token = token
        self.page: PageSession | None = None
        self._places = places
        self._files = tempfile.TemporaryDirectory(prefix="sam2_3dmed_")
        self._image_folder: Path | None = None
        self.folder = self._new_folder()
        self.received = 0

    def take_files(self) -> Path:
        """Return the folder of the files that were uploaded until now; later ones go to another."""
        taken, self.folder = self.folder, self._new_folder()
        self.received = 0
        return taken

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._files.name))

    def keep_files(self, folder: Path | None) -> None:
        """Keep the files of the image that is open, and delete those of the one before."""
        before, self._image_folder = self._image_folder, folder
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def empty(self) -> None:
        """Close the image."""
        page, self.page = self.page, None
        if page is not None:
            self._places.give_back(page)

    def close(self) -> None:
        """Close the image and delete the files."""
        self._places.by_token.pop(self.token, None)
        self.empty()
        self._files.cleanup()


class Places:
    """The places of a server, by token.

    Slices are read without holding a lease's lock, so that they are shown while a prompt is answered: places are found
    here, and the lease's clock is kept going by :meth:`keep`.

    Args:
        state: see ``page_routes.router``.
    """

    def __init__(self, state: Any):
        self.by_token: dict[str, Place] = {}
        self._state = state

    def claim(self) -> Place:
        """Return a new place.

        Raises:
            AtCapacity: all are taken.
        """
        lease = self._state.leases.claim(idle_s=PATIENCE_S, heartbeats=False)
        place = lease.holding = self.by_token[lease.token] = Place(self, lease.token)
        return place

    def find(self, token: str) -> Place:
        """Return a place.

        Raises:
            LeaseGone: there is none of that token.
        """
        if token not in self.by_token:
            raise LeaseGone("this page has lost its place on the server: open the image again.")
        return self.by_token[token]

    def keep(self, token: str) -> None:
        """Keep a place for as long again.

        Raises:
            LeaseGone: there is none of that token.
        """
        with self._state.leases.use(token):
            pass

    def open(self, place: Place, volume: Volume, window: str | tuple[float, float]) -> None:
        """Open an image in a place instead of the one before.

        Raises:
            UserError: the image is too large for this server, and the place keeps the one before; or see
            ``InteractiveSession.set_image``, and the place then has none.
        """
        largest = self._state.settings.largest_image_bytes
        if volume.array.nbytes > largest:
            raise UserError(
                f"{volume.name} takes {volume.array.nbytes / 2**30:.1f} GiB, but this server takes images of "
                f"{largest / 2**30:.1f} GiB: start it with a larger --largest-image."
            )
        # of the sessions kept for images opened before, one fits only if it would be saved likewise
        place.empty()
        key = repr((content_key(volume), volume.origin, volume.dicom_files))
        worker, sessions = self._state.worker, self._state.sessions
        place.page = PageSession(worker.run(lambda: sessions.open(volume, window, key)), volume, worker)

    def give_back(self, page: PageSession) -> None:
        """Give a page's session back to the others."""

        def give() -> None:
            page.stop()
            self._state.sessions.close(page.session)

        self._state.worker.run(give)
