"""Resumable download of one large file, with a progress bar."""

from __future__ import annotations

from io import RawIOBase
from pathlib import Path

import requests
from tqdm import tqdm

from nnunetv2_sam2_3dmed.errors import UserError

_TIMEOUT_SECONDS = 30  # without any byte
_BLOCK = 1 << 16  # what an interruption loses at most


def download(address: str, partial: Path) -> None:
    """Download ``address`` to ``partial``, appending to the part that it holds already.

    An interrupted download leaves ``partial`` where it is, for the next call to go on with. A server that cannot
    go on sends the file from its beginning.

    Args:
        address: an http(s) address.
        partial: the file; complete, of the size that the server announced, when this returns.

    Raises:
        UserError: the address cannot be reached, the file is incomplete or too long, or cannot be written.
    """
    start = partial.stat().st_size if partial.exists() else 0
    # an identity encoding: sizes and ranges then count the file's own bytes
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # all of it is there already, or the file on the server is another one by now
                total = _total_after_slash(response)
                if total in (None, start):  # where the server does not say, the caller's checks will
                    return
                partial.unlink()
                raise UserError(f"{address} has changed since the download began ({start} bytes): start it again.")
            response.raise_for_status()
            goes_on = response.status_code == requests.codes.partial_content
            start = start if goes_on else 0
            length = response.headers.get("Content-Length")
            total = start + int(length) if length is not None else None
            with partial.open("ab" if goes_on else "wb", buffering=0) as file, _bar(partial.name, total, start) as bar:
                for block in response.iter_content(_BLOCK):
                    _append(file, block, partial)
                    bar.update(len(block))
    except requests.RequestException as error:
        raise UserError(
            f"{address} cannot be downloaded: run the same command again to go on, or, on a machine without internet, "
            f"bring the file and run `sam2_3dmed weights FILE` ({error})."
        ) from error
    size = partial.stat().st_size
    if total is not None and size != total:
        raise UserError(f"{address} has {total} bytes, but {size} arrived: run the same command again to go on.")


def _append(file: RawIOBase, block: bytes, partial: Path) -> None:
    """Write a block without a buffer, which keeps errors of the disk apart from those of the connection."""
    left = memoryview(block)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise UserError(
            f"{partial} cannot be written: {error.strerror}; make room and run the same command again to go on."
        ) from error


def _total_after_slash(response: requests.Response) -> int | None:
    """The size in ``Content-Range: bytes */SIZE``."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdigit() else None


def _bar(name: str, total: int | None, start: int) -> tqdm:
    return tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, unit_divisor=1000)
