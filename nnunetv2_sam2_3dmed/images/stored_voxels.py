"""Voxels in a file: their expected length, and reading them to the end."""

from __future__ import annotations

import bz2
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

RAW, GZIP, ZLIB, BZIP2 = "raw", "gzip", "zlib", "bzip2"
GZIP_MAGIC = b"\x1f\x8b"
_WINDOW_BITS = {GZIP: 31, ZLIB: 47}  # 47: with the header of zlib or of gzip, as MetaImage takes both
_BLOCK = 1 << 16
_DECODED_BLOCK = 1 << 22  # a few bytes can become gigabytes
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class StoredVoxels:
    """The place of an image's voxels by its header.

    Attributes:
        image: the file that was asked for.
        file: that has the voxels; another one for formats with a header of its own.
        start: bytes before the data, or before the compressed stream.
        skip: bytes after decoding, before the voxels.
        length: bytes of all voxels, decoded.
        encoding: RAW, GZIP, ZLIB or BZIP2.
        dtype: of a voxel; None for types without NaN and infinity.
        compressed_length: bytes of the compressed stream, if the header states it.
    """

    image: Path
    file: Path
    start: int
    skip: int
    length: int
    encoding: str
    dtype: np.dtype | None = None
    compressed_length: int | None = None

    @property
    def decoded_length(self) -> int:
        return self.skip + self.length

    def check_length(self) -> None:
        """Compare lengths; compressed data are decoded only if they note no length or another one.

        Raises:
            UserError: the file is shorter than its header states.
        """
        self._check_there()
        size = self.file.stat().st_size
        if self.encoding == RAW:
            self._check(max(0, size - self.start - self.skip), self.length)
        elif self.compressed_length is not None:
            self._check(max(0, size - self.start), self.compressed_length, "compressed ")
        elif self.encoding != GZIP or self._noted_by_gzip(size) != self.decoded_length % 2**32:
            self.count_not_finite()

    def count_not_finite(self) -> int:
        """Decode all data and verify their checksum.

        Returns:
            The number of voxels that are NaN or infinite; 0 for integers.

        Raises:
            UserError: data are missing or damaged.
        """
        floating = self.dtype if self.dtype is not None and np.issubdtype(self.dtype, np.inexact) else None
        if self.encoding == RAW and floating is None:
            self.check_length()
            return 0
        self._check_there()
        wrong, seen, pending = 0, 0, b""
        try:
            for block in self._decoded():
                own = block[max(0, self.skip - seen) : max(0, self.decoded_length - seen)]
                seen += len(block)
                if floating is not None:
                    own = pending + own
                    whole = len(own) - len(own) % floating.itemsize
                    wrong += int(np.count_nonzero(~np.isfinite(np.frombuffer(own[:whole], floating))))
                    pending = own[whole:]
        except EOFError:
            pass  # reported below
        except (zlib.error, OSError, ValueError) as error:
            raise UserError(f"{self.image} is damaged, its voxels cannot be decoded ({error}): {_AGAIN}.") from error
        else:
            self._check(max(0, seen - self.skip), self.length)
            return wrong
        self._check(max(0, seen - self.skip), self.length)
        raise UserError(f"{self.image} is incomplete, the end of its compressed data is missing: {_AGAIN}.")

    def _check_there(self) -> None:
        if not self.file.is_file():
            raise UserError(f"{self.image} has its voxels in {self.file.name}, which does not exist: copy it as well.")

    def _check(self, there: int, expected: int, kind: str = "") -> None:
        if there < expected:
            where = "it" if self.file == self.image else self.file.name
            raise UserError(
                f"{self.image} is incomplete, {where} has {there} of {expected} {kind}bytes of voxels: {_AGAIN}."
            )

    def _noted_by_gzip(self, size: int) -> int:
        """The length of the decoded data, modulo 2^32, which ends a gzip file of one member."""
        with self.file.open("rb") as stream:
            stream.seek(max(0, size - 4))
            return int.from_bytes(stream.read(4), "little")

    def _decoded(self) -> Iterator[bytes]:
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            if self.encoding == RAW:
                while block := stream.read(_DECODED_BLOCK):
                    yield block
            elif self.encoding == BZIP2:
                yield from _unzipped_bzip2(stream)
            elif self.compressed_length is not None:  # readers take no more than that
                yield from inflated(io.BytesIO(stream.read(self.compressed_length)), self.encoding)
            else:
                yield from inflated(stream, self.encoding)


def first_bytes(file: Path, count: int) -> bytes:
    """At most ``count`` bytes from the beginning of a file.

    Raises:
        UserError: the file is empty or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(count)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    if not head:
        raise UserError(f"{file} is empty: {_AGAIN}.")
    return head


def inflated(stream: BinaryIO, encoding: str, at_once: int = _DECODED_BLOCK) -> Iterator[bytes]:
    """The decoded content of a stream of zlib or gzip, with all its members, in blocks of at most ``at_once`` bytes.

    Raises:
        EOFError: it breaks off.
        zlib.error: it is damaged, or a checksum is wrong.
    """
    inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
    rest = b""
    while True:
        block = rest or stream.read(_BLOCK)
        out = inflate.decompress(block, at_once)
        yield out
        rest = inflate.unconsumed_tail
        if inflate.eof:
            rest = inflate.unused_data
            if len(rest) < len(GZIP_MAGIC):
                rest += stream.read(_BLOCK)
            if encoding != GZIP or not rest.startswith(GZIP_MAGIC):
                return  # what follows is padding
            inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
        elif not block and not out:
            raise EOFError


def _unzipped_bzip2(stream: BinaryIO) -> Iterator[bytes]:
    unzip = bz2.BZ2Decompressor()
    while not unzip.eof:
        block = stream.read(_BLOCK) if unzip.needs_input else b""
        if unzip.needs_input and not block:
            raise EOFError
        yield unzip.decompress(block, _DECODED_BLOCK)
