"""The sessions of a server: one network, a common bound on memory, and encoded slices that outlive their users."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import torch

from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.windows import AUTO
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.segmenter import Segmenter
from nnunetv2_sam2_3dmed.interactive.tracks import Key
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import FeatureCache
from nnunetv2_sam2_3dmed.video import Video, VideoSession
from nnunetv2_sam2_3dmed.video.session import MAX_CACHE_BYTES


def content_key(volume: Volume) -> str:
    """SHA-256 of all that slices are shown by: voxels and their type, shape, spacing, orientation and modality."""
    voxels = np.ascontiguousarray(volume.array)
    stated = (voxels.dtype.str, voxels.shape, volume.spacing, volume.direction.tolist())
    digest = hashlib.sha256(repr((*stated, volume.modality, volume.inverted)).encode())
    digest.update(voxels.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


Content = tuple[str, str | tuple[float, float]]


class _Features(FeatureCache[tuple[int, int]]):
    """Features of a session, whose bound follows the number of sessions."""

    def bound(self, max_bytes: int) -> None:
        """Set the bound, and drop what exceeds it."""
        self.max_bytes = max_bytes
        for key in list(self._features)[: -self.at_least]:
            if self.bytes <= max_bytes:
                break
            self.bytes -= sum(level.nbytes for level in self._features.pop(key))


class _Answered(Segmenter):
    """A segmenter that answers no prompts, so that masks are those of the prompts that were answered before."""

    def answer(self, key: Key, index: int | None = None) -> None:
        """Answer nothing."""


class _Pooled(InteractiveSession):
    """A session of a :class:`SessionPool`, whose features are bounded anew as others come and go."""

    _features: _Features

    @property
    def feature_bytes(self) -> int:
        """Memory of its encoded slices."""
        return self._features.bytes

    def bound_features(self, max_bytes: int) -> None:
        """Bound the memory of its encoded slices from now on."""
        self._features.bound(max_bytes)


class PooledVideoSession(_Pooled, VideoSession):
    """A session of a :class:`SessionPool` on a video.

    Args:
        network: of the pool.
        device: where it runs.
        precision: of the computations.
    """

    def __init__(self, network: SAM2Base, device: torch.device, precision: str):
        super().__init__(network, device, precision)
        self._features = _Features(MAX_CACHE_BYTES, at_least=1)
        if device.type == "cpu":
            self._network.slices_at_once = 1  # as for volumes

    def bound_features(self, max_bytes: int) -> None:
        """Bound the memory of its encoded frames from now on; a video never takes more than ``MAX_CACHE_BYTES``."""
        super().bound_features(min(max_bytes, MAX_CACHE_BYTES))


class PooledSession(_Pooled):
    """A session of a :class:`SessionPool` on a volume.

    Attributes:
        content: :func:`content_key` of its image, and the window asked for.
    """

    def __init__(self, network: SAM2Base, device: torch.device, precision: str, max_cache_bytes: int):
        super().__init__(network, device, precision, max_cache_bytes=max_cache_bytes)
        self._features = _Features(max_cache_bytes, at_least=1)
        self.content: Content = ("", AUTO)
        if device.type == "cpu":
            # there batches save nothing (3.4 s for 16 slices of 256 pixels at once, 3.1 s one by one on one core), but
            # a client whose time is over would wait for all of one
            self._network.slices_at_once = 1

    def mask_so_far(self, object_id: int) -> np.ndarray:
        """Return an object's mask as :meth:`mask` does, but leave prompts that were not answered yet as they are.

        Raises:
            PromptError: there is no such object.
        """
        with self._network.running():
            return _Answered(self._network, self._axes, self._objects).logits(object_id, self.image.shape) > 0


class SessionPool:
    """Sessions on one network. All methods must be called on the worker's thread.

    A closed session is kept, without its objects, for whoever opens the same image next, so that its slices need not
    be encoded again. Those not used for longest are dropped when features exceed the bound on memory.

    Args:
        network: SAM 2 in eval mode.
        device: where it runs.
        precision: of the computations.
        memory_bytes: bound on the features of all sessions, and the images of the closed ones.
        keep: closed sessions at most.
    """

    def __init__(self, network: SAM2Base, device: torch.device, precision: str, memory_bytes: int, keep: int):
        self._network = network
        self._device = device
        self._precision = precision
        self._memory = memory_bytes
        self._keep = keep
        self._open: list[PooledSession | PooledVideoSession] = []
        self._idle: OrderedDict[Content, PooledSession] = OrderedDict()

    @property
    def network(self) -> str:
        """The side of the network's images, and where it runs, in words."""
        return f"images of {self._network.image_size} pixels, {self._device}"

    @property
    def open_sessions(self) -> int:
        """Number of sessions in use."""
        return len(self._open)

    @property
    def used_bytes(self) -> int:
        """Memory that counts towards the bound."""
        kept = sum(session.image.array.nbytes for session in self._idle.values())
        return kept + sum(session.feature_bytes for session in (*self._open, *self._idle.values()))

    def open(self, volume: Volume, window: str | tuple[float, float] = AUTO, key: str | None = None) -> PooledSession:
        """Return a session on an image, without objects; one that is kept, if it has the same image and window.

        A kept session has the image that it was opened with, which may differ in origin and file names.

        Args:
            volume: the image.
            window: see ``InteractiveSession.set_image``.
            key: :func:`content_key` of the image, where that is known.

        Raises:
            UserError: no window can be found for the image.
        """
        content = (content_key(volume) if key is None else key, window)
        session = self._idle.pop(content, None)
        if session is None:
            session = PooledSession(self._network, self._device, self._precision, self._memory)
            session.set_image(volume, window=window)
            session.content = content
        else:
            session.reset()  # also of what its former user asked for too late
        self._open.append(session)
        self._share()
        return session

    def open_video(self, video: Video) -> PooledVideoSession:
        """Return a session on a video, which is not kept once it is closed: its features are never those of all frames.

        Args:
            video: the video.
        """
        session = PooledVideoSession(self._network, self._device, self._precision)
        session.set_video(video)
        self._open.append(session)
        self._share()
        return session

    def close(self, session: PooledSession | PooledVideoSession) -> None:
        """Take back a session, which its user must not touch any more."""
        self._open.remove(session)
        if isinstance(session, PooledVideoSession):
            session.clear()
            self._share()
            return
        session.reset()
        self._idle[session.content] = session
        self._idle.move_to_end(session.content)
        self._share()

    def trim(self) -> None:
        """Drop closed sessions until all fit into the memory."""
        while self._idle and (len(self._idle) > self._keep or self.used_bytes > self._memory):
            _, dropped = self._idle.popitem(last=False)
            dropped.clear()

    def _share(self) -> None:
        for session in self._open:
            session.bound_features(self._memory // len(self._open))
        self.trim()
