"""Places of the open pages: each is a lease with uploaded files and, once an image is open, a session."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.server.leases import LeaseGone
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from nnunetv2_sam2_3dmed.server.page_uploads import Batch, dropped
from nnunetv2_sam2_3dmed.server.page_videos import ShownVideo
from nnunetv2_sam2_3dmed.server.page_volumes import ShownVolume
from nnunetv2_sam2_3dmed.server.sessions import Content, content_key
from nnunetv2_sam2_3dmed.video import open_video
from nnunetv2_sam2_3dmed.video.untrusted import check_untrusted_video

# without a request, in seconds; browsers let pages in the background send once a minute
PATIENCE_S = 300.0


class Place:
    """Place of one page: uploaded files, and an image with its objects.

    Attributes:
        token: of its lease.
        page: the image and its objects; None before one is open.
        content: key and window of the image.
    """

    def __init__(self, places: Places, token: str, largest: int):
        self.token = token
        self.page: PageSession | None = None
        self.content: Content | None = None
        self._places = places
        self._largest = largest
        # the sweep of the leases has to go on if a file cannot be deleted
        self._files = tempfile.TemporaryDirectory(prefix="sam2_3dmed_", ignore_cleanup_errors=True)
        self._batch: Batch | None = None
        self._image: Batch | None = None

    def begin(self) -> Batch:
        """Return a batch for the files that come next; the one before is deleted."""
        before, self._batch = self._batch, Batch(Path(self._files.name), self._largest)
        if before is not None:
            before.delete()
        return self._batch

    def batch(self, batch_id: str) -> Batch:
        """Return the batch that was begun last.

        Raises:
            UserError: it has another id, or was taken.
        """
        if self._batch is None or self._batch.id != batch_id:
            raise dropped()
        return self._batch

    @contextmanager
    def used(self, batch_id: str) -> Iterator[Batch]:
        """Context in which the files of a batch are used, after which they are deleted.

        Raises:
            UserError: see :meth:`batch`.
        """
        batch = self.batch(batch_id)
        self._batch = None
        try:
            yield batch
        finally:
            if batch not in (self._batch, self._image):
                batch.delete()

    def put_back(self, batch: Batch) -> None:
        """Let a batch that is in use be used once more."""
        self._batch = batch

    def keep(self, batch: Batch | None) -> None:
        """Keep the files of the image that is open, and delete those of the one before."""
        for before in (self._image, self._batch):
            if before is not None and before is not batch:
                before.delete()
        self._image, self._batch = batch, None

    def close(self) -> None:
        """Close the image and delete the files."""
        self._places.by_token.pop(self.token, None)
        page, self.page = self.page, None
        try:
            if page is not None:
                self._places.give_back(page)
        finally:
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
        place = Place(self, lease.token, self._state.settings.largest_image_bytes)
        lease.holding = self.by_token[lease.token] = place
        return place

    def find(self, token: str) -> Place:
        """Return a place.

        Raises:
            LeaseGone: there is none of that token.
        """
        place = self.by_token.get(token)
        if place is None:
            raise LeaseGone("this page has lost its place on the server: open the image again.")
        return place

    def keep(self, token: str) -> None:
        """Keep a place for as long again.

        Raises:
            LeaseGone: there is none of that token.
        """
        self._state.leases.touch(token)

    def check_bytes(self, name: str, size: int) -> None:
        """Check that an image is not larger than this server takes.

        Raises:
            UserError: it is.
        """
        largest = self._state.settings.largest_image_bytes
        if size > largest:
            raise UserError(
                f"{name} takes {size / 2**30:.1f} GiB, but this server takes images of {largest / 2**30:.1f} GiB: "
                "start it with a larger --largest-image."
            )

    def open(
        self,
        place: Place,
        volume: Volume,
        window: str | tuple[float, float],
        labels: Mapping[int, str] | None = None,
        begin: Callable[[PageSession], None] | None = None,
    ) -> None:
        """Open an image in a place instead of the one before.

        Args:
            place: of the page.
            volume: the image.
            window: see ``InteractiveSession.set_image``.
            labels: see :class:`PageSession`.
            begin: called with the page's session before it takes the place of the one before.

        Raises:
            UserError: the image is too large for this server; or see ``InteractiveSession.set_image`` and ``begin``.
                The place then keeps the one before.
        """
        self.check_bytes(volume.name, volume.array.nbytes)
        # of the sessions kept for images opened before, one fits only if it would be saved likewise
        key = repr((content_key(volume), volume.origin, volume.dicom_files))
        worker, sessions, before = self._state.worker, self._state.sessions, place.page
        # the same image, with its encoded slices; what could still be refused must leave it open
        if before is not None and begin is None and place.content == (key, window):
            self.give_back(before)
            before = None
        session = worker.run(lambda: sessions.open(volume, window, key))
        try:
            page = PageSession(session, ShownVolume(session, volume), worker, labels)
        except BaseException:
            worker.run(lambda: sessions.close(session))
            raise
        try:
            if begin is not None:
                begin(page)
        except BaseException:
            self.give_back(page)
            raise
        place.page, place.content = page, (key, window)
        if before is not None:
            self.give_back(before)

    def open_video(self, place: Place, path: Path, root: Path, name: str) -> None:
        """Open a video in a place instead of what was open before.

        Args:
            place: of the page.
            path: of the video, which stays there until it is closed.
            root: the folder with all that its sender may read.
            name: shown to the user.

        Raises:
            UserError: see ``check_untrusted_video`` and ``open_video``. The place then keeps what was open before.
        """
        check_untrusted_video(path, root)
        video, worker, sessions = open_video(path), self._state.worker, self._state.sessions
        video.name = name
        session = worker.run(lambda: sessions.open_video(video))
        try:
            shown = ShownVideo(session, name, self._state.settings.largest_image_bytes)
        except BaseException:
            worker.run(lambda: sessions.close(session))
            raise
        before, place.page, place.content = place.page, PageSession(session, shown, worker), None
        if before is not None:
            self.give_back(before)

    def give_back(self, page: PageSession) -> None:
        """Give a page's session back to the others."""

        def give() -> None:
            page.close()
            self._state.sessions.close(page.session)

        self._state.worker.run(give)
