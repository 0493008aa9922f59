"""Settings of the server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base

if TYPE_CHECKING:  # takes a second to import, for servers with a round alone
    from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue

GIB = 2**30


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Attributes:
        model: the name of an installed checkpoint, a checkpoint file, or SAM 2 itself.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1".
        precision: "auto", "bfloat16" or "float32".
        image_size: side in pixels to which slices are resized; default: see ``load_model``.
        host: address to listen at.
        port: of nnInteractive's protocol and the page; 0 for a free one.
        itksnap_port: another port at which the same server listens; None for ``port`` alone.
        key: that clients have to send; None for none.
        sessions: clients at a time.
        memory_bytes: bound on the slice features of all sessions, and on the images that are kept with them after use.
        largest_image_bytes: bound on an image, uncompressed.
        budget_s: seconds after which a prompt is answered with what has been segmented until then.
        idle_timeout_s: seconds without a call of its user after which a session ends.
        liveness_timeout_s: seconds without a sign of life after which a session ends.
        folder: whose images the page offers; None for none.
        round: that the page works through; None for none.

    Raises:
        UserError: a value is out of its range, or other machines could reach the server without a key.
    """

    model: str | Path | SAM2Base = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    image_size: int | None = None
    host: str = "127.0.0.1"
    port: int = 1527
    itksnap_port: int | None = None
    key: str | None = None
    sessions: int = 3
    memory_bytes: int = 2 * GIB
    largest_image_bytes: int = 4 * GIB
    budget_s: float = 20.0
    idle_timeout_s: float = 600.0
    liveness_timeout_s: float = 60.0
    folder: Path | None = None
    round: RoundQueue | None = None

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.key:
            raise UserError(
                f"other machines can reach the host {self.host}: give a key, or listen at 127.0.0.1 and let others in "
                "through SSH."
            )
        if self.key is not None and not (self.key and self.key.isascii() and self.key.isprintable()):
            raise UserError("the key is empty or has characters that HTTP headers cannot carry: take ASCII letters.")
        for name, port in (("port", self.port), ("ITK-SNAP's port", self.itksnap_port)):
            if port is not None and not 0 <= port <= 65535:
                raise UserError(f"{name} is {port}, but must be from 0 to 65535.")
        if self.sessions < 1:
            raise UserError(f"the number of sessions is {self.sessions}, but must be 1 or more.")
        for name, size in (
            ("memory", self.memory_bytes),
            ("largest image", self.largest_image_bytes),
        ):
            if size <= 0:
                raise UserError(f"the {name} is {size} bytes, but must be above 0.")
        for name, seconds in (
            ("budget", self.budget_s),
            ("idle timeout", self.idle_timeout_s),
            ("liveness timeout", self.liveness_timeout_s),
        ):
            if not 0 <= seconds < float("inf"):
                raise UserError(f"the {name} is {seconds:g} s, but must be 0 or more.")
        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder}: give one with images, or none.")
