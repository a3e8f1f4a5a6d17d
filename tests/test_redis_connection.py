"""The ledger's connection to Redis, as it is lost and found."""

import asyncio

import pytest

from billing.ledger.redis.connection import Connection, NotSent, StoreUnavailable

TIMEOUT_S = 20.0


async def test_a_command_after_the_end_of_a_connection_is_not_sent_and_does_not_wait() -> None:
    """Whoever asks in the very moment of the loss, too: what was not sent has no effect, and may be sent anew."""
    ended = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()
        await ended.wait()

    async with await asyncio.start_server(swallow, "127.0.0.1") as server:
        connection = Connection(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=TIMEOUT_S)
        await connection.open(TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S / 2):
            with pytest.raises(StoreUnavailable, match="connection lost"):
                await connection.call(("PING",))
            with pytest.raises(NotSent):
                await connection.call(("PING",))
        await connection.close()
        ended.set()
