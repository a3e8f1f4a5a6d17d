"""A stopping server loses no request that arrives while it closes its port and its connections."""

import asyncio
import socket

import pytest

from gateway_project import server


class Connection:
    """A connection whose last response may be complete. It can be in a set, as those of uvicorn are."""

    def __init__(self, idle: bool) -> None:
        self.cycle = self
        self.response_complete = idle


def test_connections_that_the_kernel_has_accepted_are_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        with socket.create_connection(address) as first, socket.create_connection(address) as second:
            accepted = list(server.waiting_connections(listener))
            clients = {connection.getpeername() for connection in accepted}
            assert clients == {first.getsockname(), second.getsockname()}
        for connection in accepted:
            connection.close()


@pytest.mark.parametrize(("idle", "waits"), [(True, True), (False, False)])
async def test_only_idle_connections_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, idle: bool, waits: bool
) -> None:
    stopping = server.build()
    connection = Connection(idle)
    stopping.server_state.connections.add(connection)  # type: ignore[arg-type]
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    await stopping.wait_for_idle_connections()
    assert bool(pauses) == waits and sum(pauses) == pytest.approx(server.IDLE_GRACE_S if waits else 0)
