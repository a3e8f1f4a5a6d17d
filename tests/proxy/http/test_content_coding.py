"""Content codings are decoded in bounded steps, and invalid data is an error."""

import asyncio
import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest

from proxy.http.content_coding import (
    MAX_FRAMES,
    BodyTooLarge,
    CorruptBody,
    UnsupportedCoding,
    content_codings,
    decode_body,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CAP = 2**20
TEXT = b'{"model": "demo/chat", "input": "Hello"}'
NOISE = random.Random(0).randbytes(CAP)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def brotli_encode(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=1))


Encode = Callable[[bytes], bytes]
ENCODERS: dict[str, tuple[str, Encode]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli_encode),
    "zstd": ("zstd", zstd.compress),
}
encoders = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS)
framed = pytest.mark.parametrize(("coding", "encode"), [ENCODERS["gzip"], ENCODERS["zstd"]])


@encoders
@pytest.mark.parametrize("size", [0, 1, 100, 2**16 - 1, 2**16, 2**16 + 1, 300_000, CAP])
async def test_a_body_of_any_size_is_decoded(coding: str, encode: Encode, size: int) -> None:
    for body in (NOISE[:size], bytes(size), (TEXT * (size // len(TEXT) + 1))[:size]):
        assert await decode_body(encode(body), [coding], CAP) == body


async def test_stacked_codings_are_undone_from_the_last_to_the_first() -> None:
    encoded = brotli_encode(zstd.compress(gzip.compress(TEXT)))
    assert await decode_body(encoded, ["gzip", "zstd", "br"], CAP) == TEXT


@framed
async def test_frames_that_follow_each_other_are_one_body(coding: str, encode: Encode) -> None:
    parts = [NOISE[:70_000], b"", TEXT]
    assert await decode_body(b"".join(map(encode, parts)), [coding], CAP) == b"".join(parts)


async def test_a_skippable_frame_of_zstd_is_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert await decode_body(skippable + zstd.compress(TEXT), ["zstd"], CAP) == TEXT


@encoders
@pytest.mark.parametrize("codings", [1, 2])
async def test_a_bomb_is_rejected_without_expanding_it(coding: str, encode: Encode, codings: int) -> None:
    bomb = encode(bytes(200 * CAP))
    for _ in range(codings - 1):
        bomb = encode(bomb)
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        await decode_body(bomb, [coding] * codings, CAP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * CAP


@encoders
@pytest.mark.parametrize("limit", [CAP - 1, CAP])
async def test_the_cap_is_of_the_decoded_body(coding: str, encode: Encode, limit: int) -> None:
    encoded = encode(bytes(CAP))
    if limit == CAP:
        assert len(await decode_body(encoded, [coding], limit)) == CAP
    else:
        with pytest.raises(BodyTooLarge):
            await decode_body(encoded, [coding], limit)


@framed
async def test_countless_frames_are_rejected(coding: str, encode: Encode) -> None:
    """Each frame takes time to decode, even if it is empty."""
    assert await decode_body(encode(b"") * MAX_FRAMES, [coding], CAP) == b""
    with pytest.raises(CorruptBody):
        await decode_body(encode(b"") * (MAX_FRAMES + 1), [coding], CAP)


@encoders
@pytest.mark.parametrize("damage", ["cut", "empty tail", "garbage", "trailing", "zeros", "plain", "other"])
async def test_a_corrupt_body_is_rejected(coding: str, encode: Encode, damage: str) -> None:
    encoded = encode(TEXT * 10_000)
    bodies = {
        "cut": encoded[: len(encoded) // 2],
        "empty tail": encoded[:-1],
        "garbage": NOISE[:1000],
        "trailing": encoded + b"x",
        "zeros": encoded + bytes(100_000),
        "plain": TEXT,
        "other": zstd.compress(TEXT) if coding != "zstd" else gzip.compress(TEXT),
    }
    with pytest.raises(CorruptBody) as failure:
        await decode_body(bodies[damage], [coding], CAP)
    assert failure.value.coding == coding


async def test_a_huge_window_of_zstd_is_rejected() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(CorruptBody):
        await decode_body(compressor.compress(TEXT) + compressor.flush(), ["zstd"], CAP)


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], []),
        ([b""], []),
        ([b"identity"], []),
        ([b"GZIP"], ["gzip"]),
        ([b"x-gzip"], ["gzip"]),
        ([b" gzip ,, identity, br"], ["gzip", "br"]),
        ([b"gzip", b"zstd"], ["gzip", "zstd"]),
    ],
)
def test_the_header_lists_codings_in_any_case(values: list[bytes], codings: list[str]) -> None:
    headers = [(b"content-type", b"application/json"), *((b"content-encoding", value) for value in values)]
    assert content_codings(headers) == codings


@pytest.mark.parametrize("value", [b"compress", b"gzip, aes128gcm", b"utf-8", b"gzip;q=1", b"gzip," * 9])
def test_other_codings_and_long_stacks_are_not_supported(value: bytes) -> None:
    with pytest.raises(UnsupportedCoding):
        content_codings([(b"content-encoding", value)])


async def test_other_requests_run_while_a_body_is_decoded() -> None:
    """Empty blocks take a second in 32 MiB of brotli, and have no output."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    with pytest.raises(CorruptBody):
        await decode_body(b"\x0c" + b"\x06" * CAP, ["br"], CAP)
    counting.cancel()
    assert turns > 10
