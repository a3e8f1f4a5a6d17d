"""Fake services of a gateway process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FakeServices:
    """Replaces `running_services`, and records start and stop. The next `failures` starts fail."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failures = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OSError("no connection")
        self.events.append("start")
        yield
        self.events.append("stop")
