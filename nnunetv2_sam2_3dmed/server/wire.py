"""Arrays on the wire: nnInteractive's ``NNIA`` format, read without trusting it, and gzip of plain voxels.

All numbers are little-endian: ``NNIA``, version, codec, number of dimensions, length of the type's name, the name, the
sizes (int64), the number of chunks (uint32), and of each chunk its lengths uncompressed and compressed (uint64) and a
Blosc2 chunk. The array is in C order.
"""

from __future__ import annotations

import math
import struct
import zlib

import blosc2
import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

MAGIC = b"NNIA"
VERSION = 1
CHUNK_BYTES = 2**30  # Blosc2 takes less than 2 GiB at once
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
_ZSTD = 1
_MOST_DIMENSIONS = 8
_BLOSC_HEADER = 32
# of a Blosc2 chunk's header: the codec's number in the upper bits of byte 2 is 6 for those loaded as plugins
_USER_CODEC = 6
# filters by number: none, shuffle, bitshuffle; others are plugins or need more than one chunk
_FILTERS = frozenset((0, 1, 2))


class WireError(UserError):
    """Bytes that are no array, or not one that is taken."""


class TooLarge(UserError):
    """An array of more bytes than is taken."""


def pack(array: np.ndarray) -> bytes:
    """Return an array as ``NNIA``.

    Args:
        array: of one of :data:`DTYPES`.
    """
    # ascontiguousarray would make a vector of a number
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    name = array.dtype.name.encode()
    raw = array.reshape(-1).view(np.uint8).data
    step = CHUNK_BYTES // array.itemsize * array.itemsize
    parts = [
        struct.pack(f"<4sBBBB{len(name)}s", MAGIC, VERSION, _ZSTD, array.ndim, len(name), name),
        struct.pack(f"<{array.ndim}qI", *array.shape, -(-len(raw) // step)),
    ]
    for first in range(0, len(raw), step):
        part = raw[first : first + step]
        chunk = blosc2.compress2(
            part, typesize=array.itemsize, codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.NOFILTER]
        )
        parts += [struct.pack("<QQ", len(part), len(chunk)), chunk]
    return b"".join(parts)


def unpack(body: bytes, max_bytes: int) -> np.ndarray:
    """Return the array of an ``NNIA`` body.

    Args:
        body: nothing of it is trusted; no more than the array is allocated.
        max_bytes: of the array.

    Raises:
        WireError: the body is something else, is truncated, or contradicts itself.
        TooLarge: the array has more than ``max_bytes``.
    """
    reader = _Reader(body)
    magic, version, _, dimensions, name_length = reader.numbers("<4sBBBB")
    if magic != MAGIC:
        raise WireError(f"the body begins with {magic!r}, but an array begins with {MAGIC!r}: send it as NNIA.")
    if version != VERSION:
        raise WireError(f"the array has version {version} of NNIA, but this server reads version {VERSION}.")
    if dimensions > _MOST_DIMENSIONS:
        raise WireError(f"the array has {dimensions} dimensions, but at most {_MOST_DIMENSIONS} are read.")
    name = bytes(reader.take(name_length)).decode("latin-1")
    if name not in DTYPES:
        raise WireError(f"the array's type is {name[:30]!r}, but must be one of {', '.join(DTYPES)}.")
    dtype = np.dtype(name).newbyteorder("<")
    shape = reader.numbers(f"<{dimensions}q")
    if any(length < 0 for length in shape):
        raise WireError(f"the array's shape is {shape}, but no length may be negative.")
    size = math.prod(shape) * dtype.itemsize
    if max(size, *shape, 0) > max_bytes:  # an empty array, too, has lengths that numpy can count
        raise TooLarge(
            f"the array has {size / 2**20:.0f} MiB, but this server takes {max_bytes / 2**20:.0f} MiB: send a part of "
            "it, or start the server with a larger --largest-image."
        )
    (count,) = reader.numbers("<I")
    chunks = []
    for _ in range(count):
        uncompressed, compressed = reader.numbers("<QQ")
        chunk = reader.take(compressed)
        _check_chunk(chunk, uncompressed)
        chunks.append((chunk, uncompressed))
    if reader.left:
        raise WireError(f"{reader.left} bytes follow the array's end.")
    found = sum(uncompressed for _, uncompressed in chunks)
    if found != size:
        raise WireError(f"the array's chunks hold {found} bytes, but its shape and type need {size}.")
    # zeros, since a chunk can declare its bytes as not initialised
    raw = np.zeros(size, dtype=np.uint8)
    place = 0
    for chunk, uncompressed in chunks:
        try:
            written = blosc2.decompress2(chunk, dst=raw[place : place + uncompressed])
        except (RuntimeError, ValueError) as error:
            raise WireError("a chunk of the array is damaged: send it again.") from error
        assert written is None
        place += uncompressed
    return raw.view(dtype).reshape(shape)


def _check_chunk(chunk: memoryview, uncompressed: int) -> None:
    """Check a Blosc2 chunk's header before anything is allocated or loaded.

    Raises:
        WireError: it states other lengths, or a codec or filter of a plugin.
    """
    if len(chunk) < _BLOSC_HEADER:
        raise WireError(f"a chunk of the array has {len(chunk)} bytes, but needs {_BLOSC_HEADER} or more.")
    try:
        states, compressed, _ = blosc2.get_cbuffer_sizes(chunk)
    except (RuntimeError, ValueError) as error:
        raise WireError("a chunk of the array is no Blosc2 chunk.") from error
    if (states, compressed) != (uncompressed, len(chunk)):
        raise WireError(
            f"a chunk of the array states {states} bytes in {compressed}, but has {uncompressed} in {len(chunk)}."
        )
    if chunk[2] >> 5 == _USER_CODEC or not _FILTERS.issuperset(chunk[16:22]):
        raise WireError("a chunk of the array uses a codec or filter that is not read: take Zstandard or LZ4.")


def gunzip(body: bytes, size: int) -> bytes:
    """Return the ``size`` bytes that a gzip file holds; no more are unpacked.

    Raises:
        WireError: it is no gzip file, is truncated, or holds another number of bytes.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(body, size + 1)
    except zlib.error as error:
        raise WireError(f"the file cannot be unpacked: {error}.") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content)}"
        raise WireError(f"the file holds {found} bytes, but {size} are expected.")
    if not unpacker.eof:
        raise WireError("the file is truncated: send it again.")
    return content


class _Reader:
    """Bytes that are taken from the front."""

    def __init__(self, body: bytes):
        self._body = memoryview(body)
        self._place = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._place

    def take(self, count: int) -> memoryview:
        if count > self.left:
            raise WireError(f"the array is truncated: {count} more bytes are announced, but {self.left} are there.")
        self._place += count
        return self._body[self._place - count : self._place]

    def numbers(self, layout: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))
