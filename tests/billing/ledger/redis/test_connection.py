"""The ledger's connection to Redis, lost and restored."""

import asyncio

import pytest

from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.protocol import CommandNotSent, RedisUnavailable

TIMEOUT_S = 20.0


async def test_command_after_disconnect_fails_as_not_sent() -> None:
    """A command at the moment of the disconnect fails in the same way.

    It has no effect, and may be sent again.
    """
    ended = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()
        await ended.wait()

    async with await asyncio.start_server(swallow, "127.0.0.1") as server:
        connection = RedisConnection(
            f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=TIMEOUT_S
        )
        await connection.open(TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S / 2):
            with pytest.raises(RedisUnavailable, match="connection lost"):
                await connection.call(("PING",))
            with pytest.raises(CommandNotSent):
                await connection.call(("PING",))
        await connection.close()
        ended.set()
