"""Decode the content codings of request bodies (RFC 9110, section 8.4) in steps of bounded size.

A small body can decode to gigabytes. Each step therefore returns hardly more than PIECE_BYTES, and decoding
stops at the size limit of bodies. Other requests run between two steps.
"""

import asyncio
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SLICE_BYTES = PIECE_BYTES = 64 * 1024
"""Number of bytes that a decoder gets in one step, and that it returns in one step.

A decoder copies the bytes after the end of a frame. With one large slice of many small frames, it would copy
them many times.
"""
MAX_FRAMES = 1000
"""Maximum number of zstd frames or gzip members in one body. Each takes time even if it is empty."""
MAX_CODINGS = 4
GZIP_WBITS, ZLIB_WBITS, RAW_DEFLATE_WBITS = 31, 15, -15
"""The `wbits` values of zlib for gzip, zlib and raw deflate; see zlib.decompress."""
ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 25}
"""Reject frames whose window is larger than 32 MiB.

RFC 9659 allows 8 MiB. The limit is larger because the window of a frame that states its content size is as
large as its content.
"""


class UnsupportedCoding(Exception):
    """The gateway does not support the content coding of the body, or the body has too many codings."""


class CorruptBody(Exception):
    """The body cannot be decoded with the content coding that the request states."""

    def __init__(self, coding: str) -> None:
        super().__init__(coding)
        self.coding = coding


class InvalidFrames(Exception):
    """The body ends within a frame, or has too many frames."""


class BodyTooLarge(Exception):
    """The body is larger than the limit. The part that has arrived is discarded."""


class Frame(Protocol):
    """Decoder of one frame. `unused` contains the bytes of the last slice after the end of the frame."""

    @property
    def has_ended(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes:
        """Return the next decoded bytes. If `data` is given, the decoder must need input."""


class ZlibFrame:
    """A gzip member, or a deflate stream."""

    def __init__(self, wbits: int) -> None:
        self.decoder = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def has_ended(self) -> bool:
        return self.decoder.eof

    @property
    def unused(self) -> bytes:
        return self.decoder.unused_data

    def feed(self, data: bytes) -> bytes:
        piece = self.decoder.decompress(data or self.decoder.unconsumed_tail, PIECE_BYTES)
        self.needs_input = not self.decoder.unconsumed_tail and len(piece) < PIECE_BYTES
        return piece


class ZstdFrame:
    """A zstd frame (RFC 8878)."""

    def __init__(self) -> None:
        self.decoder = zstd.ZstdDecompressor(options=ZSTD_OPTIONS)

    @property
    def has_ended(self) -> bool:
        return self.decoder.eof

    @property
    def needs_input(self) -> bool:
        return self.decoder.needs_input

    @property
    def unused(self) -> bytes:
        return self.decoder.unused_data

    def feed(self, data: bytes) -> bytes:
        return self.decoder.decompress(data, PIECE_BYTES)


class BrotliFrame:
    """A brotli stream (RFC 7932). The decoder itself rejects bytes after its end."""

    unused = b""

    def __init__(self) -> None:
        self.decoder = brotli.Decompressor()
        self.needs_input = True

    @property
    def has_ended(self) -> bool:
        return bool(self.decoder.is_finished())

    def feed(self, data: bytes) -> bytes:
        piece = bytes(self.decoder.process(data, output_buffer_limit=PIECE_BYTES))
        # The decoder accepts more input while it still has output, so take all of its output first.
        self.needs_input = not piece
        return piece


def decode_gzip(body: bytes) -> Iterator[bytes]:
    return decode_frames(body, lambda: ZlibFrame(GZIP_WBITS), MAX_FRAMES)


def decode_deflate(body: bytes) -> Iterator[bytes]:
    """Decode the zlib format, or raw deflate without the zlib header, which some clients send by mistake."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return decode_frames(body, lambda: ZlibFrame(ZLIB_WBITS if has_header else RAW_DEFLATE_WBITS), 1)


def decode_brotli(body: bytes) -> Iterator[bytes]:
    return decode_frames(body, BrotliFrame, 1)


def decode_zstd(body: bytes) -> Iterator[bytes]:
    return decode_frames(body, ZstdFrame, MAX_FRAMES)


DECODERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": decode_gzip,
    "deflate": decode_deflate,
    "br": decode_brotli,
    "zstd": decode_zstd,
}
SUPPORTED_CODINGS = ", ".join(DECODERS)
ALIASES = {"x-gzip": "gzip"}
"""RFC 9110, section 8.4.1.3."""


def content_codings(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the codings in the order in which the client applied them. Raises UnsupportedCoding."""
    values = [value.decode("latin-1") for name, value in headers if name == b"content-encoding"]
    names = [name.strip().lower() for name in ",".join(values).split(",")]
    codings = [ALIASES.get(name, name) for name in names if name not in ("", "identity")]
    unknown = [coding for coding in codings if coding not in DECODERS]
    if unknown or len(codings) > MAX_CODINGS:
        raise UnsupportedCoding(", ".join(unknown or codings))
    return codings


async def decode_body(body: bytes, codings: list[str], limit: int) -> bytes:
    """Decode all codings, the last one first. An empty body is returned unchanged.

    Raises CorruptBody, and BodyTooLarge if a coding decodes to more than `limit` bytes.
    """
    for coding in reversed(codings):
        if body:
            try:
                body = await join_pieces(DECODERS[coding](body), limit)
            except (InvalidFrames, zlib.error, zstd.ZstdError, brotli.error):
                raise CorruptBody(coding) from None
    return body


async def join_pieces(pieces: Iterable[bytes], limit: int) -> bytes:
    """Join all pieces. Raises BodyTooLarge as soon as they exceed `limit` bytes."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) > limit:
            raise BodyTooLarge
        await asyncio.sleep(0)
    return bytes(joined)


def decode_frames(body: bytes, new_frame: Callable[[], Frame], max_frames: int) -> Iterator[bytes]:
    """Yield the decoded content of consecutive frames.

    Raises InvalidFrames, and the errors of the decoders' libraries.
    """
    frame, count = new_frame(), 1
    for start in range(0, len(body), SLICE_BYTES):
        data = body[start : start + SLICE_BYTES]
        while data or not (frame.needs_input or frame.has_ended):
            if frame.has_ended:
                frame, count = new_frame(), count + 1
                if count > max_frames:
                    raise InvalidFrames
            yield frame.feed(data)
            data = frame.unused if frame.has_ended else b""
    if not frame.has_ended:
        raise InvalidFrames
