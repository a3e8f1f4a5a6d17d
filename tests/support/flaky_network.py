"""A network before PostgreSQL that loses what it is given, or delivers it late."""

import asyncio

from billing.ledger.sql.connection import PostgresConnection


class FlakyProxy:
    """A network before PostgreSQL that can swallow what it is given, and deliver it much later."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.outside = 0
        self.is_swallowing = False
        self.swallowed_bytes: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(self.host, self.port)
        self.writers += [writer, back_writer]
        self.tasks += [
            asyncio.create_task(self.forward(reader, back_writer)),
            asyncio.create_task(self.forward(back_reader, writer)),
        ]

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The end of a connection that was cut does not arrive either."""
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
    """The network swallows everything from a COMMIT on, if it is told to."""

    has_disconnected: FlakyProxy | None = None

    async def commit(self) -> None:
        if self.has_disconnected is not None:
            self.has_disconnected.is_swallowing, self.has_disconnected = True, None
        await super().commit()
