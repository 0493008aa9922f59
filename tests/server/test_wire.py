"""Arrays on the wire, beside the official client's reader and writer."""

from __future__ import annotations

import gzip
import random
import struct
import tracemalloc

import blosc2
import numpy as np
import pytest
from nnInteractive.inference.remote.serialization import pack_array, unpack_array

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server import wire
from nnunetv2_sam2_3dmed.server.wire import TooLarge, WireError, gunzip, pack, unpack

RNG = np.random.default_rng(0)
ARRAYS = {
    "image": (RNG.normal(0, 500, (1, 5, 6, 7))).astype(np.int16),
    "float": RNG.random((3, 4, 5)),
    "mask": RNG.random((9, 8, 7)) > 0.5,
    "zeros of an odd number of bytes": np.zeros((3, 5, 7), np.uint16),
    "strided": np.arange(240, dtype=np.float32).reshape(6, 8, 5)[::2, ::-1],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_the_official_client_reads_and_writes_the_same(array):
    for read in (unpack(pack_array(array), 2**20), unpack_array(pack(array)), unpack(pack(array), 2**20)):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_big_endian_arrays_are_written_little_endian():
    read = unpack_array(pack(np.arange(6, dtype=">i4").reshape(2, 3)))
    np.testing.assert_array_equal(read, [[0, 1, 2], [3, 4, 5]])


def test_an_empty_array_has_no_chunks():
    body = pack(np.zeros((1, 0, 3), np.uint8))
    assert body == b"NNIA" + bytes([1, 1, 3, 5]) + b"uint8" + struct.pack("<3qI", 1, 0, 3, 0)
    assert unpack(body, 100).shape == (1, 0, 3)


def test_large_arrays_go_in_chunks(monkeypatch):
    monkeypatch.setattr(wire, "CHUNK_BYTES", 1001)  # no multiple of the item size
    array = np.arange(1000, dtype=np.float64)
    body = pack(array)
    header = 8 + len("float64") + 8
    assert struct.unpack_from("<IQ", body, header) == (8, 1000)
    np.testing.assert_array_equal(unpack_array(body), array)
    np.testing.assert_array_equal(unpack(body, 8000), array)


def body_of(dtype: bytes, shape: tuple[int, ...], *chunks: tuple[int, bytes], magic=b"NNIA", version=1) -> bytes:
    """An array with any claims."""
    parts = [magic, bytes([version, 1, len(shape), len(dtype)]), dtype, struct.pack(f"<{len(shape)}q", *shape)]
    parts.append(struct.pack("<I", len(chunks)))
    for length, chunk in chunks:
        parts += [struct.pack("<QQ", length, len(chunk)), chunk]
    return b"".join(parts)


CHUNK = blosc2.compress2(np.arange(100, dtype=np.uint8), typesize=1)
USER_CODEC = bytes([*CHUNK[:2], CHUNK[2] & 0b11111 | 6 << 5, *CHUNK[3:]])
USER_FILTER = bytes([*CHUNK[:16], 160, *CHUNK[17:]])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (body_of(b"uint8", (100,), (100, CHUNK), magic=b"NIFT"), "begins with b'NIFT'"),
        (body_of(b"uint8", (100,), (100, CHUNK), version=2), "version 2"),
        (body_of(b"object", (100,), (100, CHUNK)), "type is 'object'"),
        (body_of(b"<u1", (100,), (100, CHUNK)), "type is '<u1'"),
        (body_of(b"uint8", (-100,), (100, CHUNK)), "negative"),
        (body_of(b"uint8", (1,) * 9), "9 dimensions"),
        (body_of(b"uint8", (101,), (100, CHUNK)), "hold 100 bytes, but its shape and type need 101"),
        (body_of(b"uint8", (100,), (100, CHUNK), (100, CHUNK)), "hold 200 bytes"),
        (body_of(b"uint8", (50,), (50, CHUNK)), "states 100 bytes"),
        (body_of(b"uint8", (100,), (100, CHUNK + b"\0")), "states 100 bytes"),
        (body_of(b"uint8", (100,), (100, CHUNK))[:-1], "truncated"),
        (body_of(b"uint8", (100,), (100, CHUNK)) + b"\0", "1 bytes follow"),
        (body_of(b"uint8", (100,), (100, CHUNK[:20])), "needs 32"),
        (body_of(b"uint8", (100,), (100, USER_CODEC)), "codec or filter"),
        (body_of(b"uint8", (100,), (100, USER_FILTER)), "codec or filter"),
    ],
)
def test_bodies_that_are_no_arrays_are_refused(body, said):
    with pytest.raises(WireError, match=said):
        unpack(body, 1000)


@pytest.mark.parametrize("shape", [(1001,), (2**62, 2**62), (0, 2**62)])
def test_lengths_beyond_the_bound_are_refused(shape):
    with pytest.raises(TooLarge, match="this server takes 0 MiB"):
        unpack(body_of(b"uint8", shape, (100, CHUNK)), 1000)


def test_a_bomb_allocates_nothing():
    zeros = blosc2.compress2(np.zeros(2**28, np.uint8), typesize=1)
    assert len(zeros) < 100
    tracemalloc.start()
    with pytest.raises(TooLarge):
        unpack(body_of(b"uint8", (2**28,), (2**28, zeros)), 2**20)
    with pytest.raises(WireError):  # fits by its shape, not by its chunk
        unpack(body_of(b"uint8", (2**20,), (2**28, zeros)), 2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**19
    tracemalloc.stop()


def test_bytes_that_a_chunk_leaves_uninitialised_are_zeros():
    header = bytearray(blosc2.compress2(np.zeros(100, np.uint8), typesize=1))
    header[31] = 4 << 4  # Blosc2's special value for content that is not initialised
    assert not unpack(body_of(b"uint8", (100,), (100, bytes(header))), 1000).any()


def test_seeded_mutations_are_read_or_refused():
    body = pack(RNG.integers(0, 3, (9, 20, 30)).astype(np.int16))
    chance = random.Random(0)
    refused = 0
    for _ in range(5000):
        changed = bytearray(body)
        for _ in range(chance.choice((1, 2, 5))):
            changed[chance.randrange(110 if chance.random() < 0.7 else len(body))] = chance.randrange(256)
        try:
            assert (
                unpack(bytes(changed[: chance.choice((None, None, chance.randrange(len(body))))]), 10**6).nbytes
                <= 10**6
            )
        except UserError:
            refused += 1
    assert 4000 < refused < 5000  # voxels of a compressed chunk can change without a contradiction


def test_gunzip_takes_the_stated_length_alone():
    content = bytes(range(256)) * 4
    assert gunzip(gzip.compress(content), 1024) == content
    for length, said in ((1023, "holds more bytes, but 1023"), (1025, "holds 1024 bytes, but 1025")):
        with pytest.raises(WireError, match=said):
            gunzip(gzip.compress(content), length)
    with pytest.raises(WireError, match="cannot be unpacked"):
        gunzip(b"no gzip", 10)
    with pytest.raises(WireError, match="truncated"):
        gunzip(gzip.compress(content)[:-4], 1024)
    bomb = gzip.compress(bytes(2**26))
    tracemalloc.start()
    with pytest.raises(WireError, match="more bytes"):
        gunzip(bomb, 1000)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
