"""The services of a process start once: with the server, or with the first request."""

import asyncio
from pathlib import Path

import pytest

from gateway_project import lifespan
from gateway_project.asgi import application
from proxy.http.asgi import ASGIMessage
from proxy.runtime import runtime
from tests.support.fake_services import FakeServices
from tests.support.gateway_server import GatewayProcess

HEALTH = {"type": "http", "method": "GET", "path": "/health", "headers": [], "query_string": b""}


async def request_health() -> int:
    sent: list[ASGIMessage] = []

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    async def receive() -> ASGIMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    await application(HEALTH, receive, send)
    status: int = sent[0]["status"]
    return status


async def announce(*types: str) -> list[ASGIMessage]:
    """Send lifespan events of these types, and a request before the last one; return the replies."""
    sent: list[ASGIMessage] = []
    events = iter(types)

    async def receive() -> ASGIMessage:
        if sent:
            await request_health()
        return {"type": next(events)}

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    await application({"type": "lifespan"}, receive, send)
    return sent


async def test_a_server_without_lifespan_events_starts_them_at_its_first_request(
    fake_services: FakeServices,
) -> None:
    assert list(await asyncio.gather(request_health(), request_health())) == [200, 200]
    assert await request_health() == 200
    assert fake_services.events == ["start"] and runtime.ready


async def test_a_server_with_lifespan_events_starts_and_stops_them_once(fake_services: FakeServices) -> None:
    replies = await announce("lifespan.startup", "lifespan.shutdown")
    assert [reply["type"] for reply in replies] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert fake_services.events == ["start", "stop"] and not runtime.ready


async def test_a_failed_start_is_tried_again_by_the_next_request(fake_services: FakeServices) -> None:
    fake_services.failures = 1
    with pytest.raises(OSError, match="no connection"):
        await request_health()
    assert await request_health() == 200 and fake_services.events == ["start"]


async def test_a_failed_start_is_reported_to_a_server_with_lifespan_events(
    fake_services: FakeServices,
) -> None:
    fake_services.failures = 1
    (reply,) = await announce("lifespan.startup")
    assert reply == {"type": "lifespan.startup.failed", "message": "no connection"}


def test_they_stop_once_after_the_event_loop_has_ended(fake_services: FakeServices) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(request_health())
    lifespan.services.stop_on_demand()
    lifespan.services.stop_on_demand()
    assert fake_services.events == ["start", "stop"] and not runtime.ready
    loop.close()


def test_a_process_that_serves_loads_neither_daphne_nor_its_reactor(tmp_path: Path) -> None:
    code = (
        "import sys, gateway_project.server, gateway_project.asgi; "
        "print({'daphne', 'twisted.internet'} & set(sys.modules))"
    )
    gateway = GatewayProcess(tmp_path / "data")
    assert gateway.manage("shell", "-v0", "-c", code).splitlines()[-1] == "set()"
