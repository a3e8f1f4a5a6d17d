"""Bodies of pages are limited to the size of their largest form."""

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway_project.asgi import MAX_PAGE_BODY_BYTES, application
from proxy.http.asgi import ASGIMessage
from tests.support.live_gateway import LiveGateway

pytestmark = pytest.mark.usefixtures("services_have_started")

CHUNK = 2**16


def pieces(size: int) -> Iterator[bytes]:
    for start in range(0, size, CHUNK):
        yield b"x" * min(CHUNK, size - start)


async def post(headers: list[tuple[bytes, bytes]], chunks: int) -> tuple[list[ASGIMessage], int]:
    """Send a body in this number of chunks. Return the response, and how many chunks were read."""
    sent: list[ASGIMessage] = []
    chunk_numbers = itertools.count()

    async def receive() -> ASGIMessage:
        if next(chunk_numbers) < chunks:
            return {"type": "http.request", "body": b"x" * CHUNK, "more_body": True}
        return {"type": "http.disconnect"}

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/accounts/login/",
        "headers": headers,
        "query_string": b"",
    }
    await application(scope, receive, send)
    return sent, next(chunk_numbers)


async def test_a_sized_body_over_the_limit_is_rejected_unread() -> None:
    sent, chunks_read = await post([(b"content-length", str(MAX_PAGE_BODY_BYTES + 1).encode())], chunks=100)
    assert (sent[0]["status"], chunks_read) == (413, 0)


async def test_a_chunked_body_is_read_up_to_the_limit() -> None:
    sent, chunks_read = await post([(b"transfer-encoding", b"chunked")], chunks=1000)
    assert (sent[0]["status"], len(sent)) == (413, 2)
    assert chunks_read == MAX_PAGE_BODY_BYTES // CHUNK + 1


@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/", "/projects/"])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "chunked"])
def test_a_page_responds_with_413_and_keeps_serving(
    live_gateway: LiveGateway, transactional_db: None, path: str, sized: bool
) -> None:
    size = 16 * 2**20
    with httpx.Client(base_url=live_gateway.url, timeout=20) as client:
        response = client.post(path, content=b"x" * size if sized else pieces(size))
        assert (response.status_code, response.text) == (413, "The request body is too large.\n")
        assert "connection" not in response.headers
        assert client.get("/accounts/login/").status_code == 200


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "chunked"])
def test_a_body_at_the_limit_reaches_the_page(
    live_gateway: LiveGateway, transactional_db: None, sized: bool
) -> None:
    content = b"x" * MAX_PAGE_BODY_BYTES if sized else pieces(MAX_PAGE_BODY_BYTES)
    response = httpx.post(f"{live_gateway.url}/accounts/login/", content=content, timeout=20)
    assert response.status_code == 403 and "This form has expired" in response.text


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/accounts/login/", "/nothing/here"])
def test_every_response_has_the_id_of_its_request(live_gateway: LiveGateway, path: str) -> None:
    own = httpx.get(live_gateway.url + path, headers={"x-request-id": "my-custom-id"})
    assert own.headers.get_list("x-request-id") == ["my-custom-id"]
    assert httpx.get(live_gateway.url + path).headers["x-request-id"].startswith("req_")
