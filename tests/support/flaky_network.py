"""Proxy in front of PostgreSQL that drops or delays data."""

import asyncio

from billing.ledger.sql.postgresql import PostgresConnection


class FlakyProxy:
    """A proxy that can hold received data, and deliver it much later."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.port = 0
        self.is_swallowing = False
        self.swallowed_bytes: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(*self.server)
        self.writers += [writer, back_writer]
        self.tasks += [
            asyncio.create_task(self.forward(reader, back_writer)),
            asyncio.create_task(self.forward(back_reader, writer)),
        ]

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward data. If any data is lost, all later data and the end of the connection are lost too."""
        lost = False
        while data := await reader.read(65536):
            lost = lost or self.is_swallowing
            if lost:
                self.swallowed_bytes.append((writer, data))
            else:
                writer.write(data)

    def flush_swallowed(self) -> None:
        for writer, data in self.swallowed_bytes:
            writer.write(data)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self.writers), return_exceptions=True)


class DisconnectAtCommit(PostgresConnection):
    """A connection whose proxy drops all data from the next COMMIT, if `proxy_to_cut` is set."""

    proxy_to_cut: FlakyProxy | None = None

    async def commit(self) -> None:
        if self.proxy_to_cut is not None:
            self.proxy_to_cut.is_swallowing, self.proxy_to_cut = True, None
        await super().commit()
