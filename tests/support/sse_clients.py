"""Clients that read many streams at once over plain sockets, each at its own speed."""

import asyncio
import json
import socket
from typing import Any

END = b"0\r\n\r\n"
"""The last chunk of a response whose stream has an end."""


def request_bytes(token: str, body: dict[str, Any]) -> bytes:
    """Return a request for a streamed chat completion; the server closes the connection after it."""
    payload = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True, **body}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


async def read_stream(
    port: int, token: str, *, started: asyncio.Semaphore | None = None, **body: Any
) -> bytes:
    """Return the whole response. `started` is released when its first bytes have arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(token, body))
    received = await reader.read(65536)
    if started is not None:
        started.release()
    while data := await reader.read(65536):
        received += data
    writer.close()
    return received


async def read_slowly(port: int, token: str, bytes_per_s: int, seconds: float, **body: Any) -> int:
    """Read a stream at this speed for some time. Return the number of bytes.

    The buffers of the client are small, so that the server notices the speed.
    """
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bytes_per_s)
    connection.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=bytes_per_s)
    writer.write(request_bytes(token, body))
    count, loop = 0, asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while loop.time() < ends_at:
        count += len(await reader.read(bytes_per_s))
        await asyncio.sleep(1)
    writer.transport.abort()
    return count


async def wait_for(started: asyncio.Semaphore, count: int) -> None:
    """Wait until this many streams have started."""
    for _ in range(count):
        await started.acquire()
