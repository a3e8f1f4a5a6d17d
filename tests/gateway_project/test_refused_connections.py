"""Requests that never reach a route: too many header bytes, invalid HTTP, or an upgrade.

Anyone can send them without a key. Therefore each one is counted, but none of them logs a traceback.
"""

import json
import logging
import socket

import httpx
import pytest
from django.test import Client
from django.urls import reverse
from prometheus_client import REGISTRY

from gateway_project.logging import JsonFormatter
from gateway_project.server import MAX_HEADER_BYTES, MAX_HEADER_COUNT
from projects.models import Project, User
from tests.support.factories import signed_in
from tests.support.live_gateway import LiveGateway, wait_until

UPGRADE = b"GET /%s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
HANDSHAKE = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def head(size: int, path: bytes = b"/health") -> bytes:
    """Return the headers of a request with this total size, in fields of at most 8 KiB."""
    start, end = b"GET %s HTTP/1.1\r\nhost: x\r\n" % path, b"\r\n"
    fields: list[bytes] = []
    while (left := size - len(start) - len(end) - sum(map(len, fields))) > 0:
        length = left if left <= 8192 else min(8192, left - 100)
        fields.append(b"x-filler: %s\r\n" % (b"a" * (length - len(b"x-filler: \r\n"))))
    return start + b"".join(fields) + end


def exchange(gateway: LiveGateway, *parts: bytes) -> bytes:
    """Send each part in its own call; return the first bytes that the server sends."""
    with socket.create_connection(("127.0.0.1", gateway.socket.getsockname()[1]), timeout=5) as client:
        for part in parts:
            client.sendall(part)
        try:
            return client.recv(65536)
        except ConnectionResetError:
            return b""


def rejection_counts(protocol: str, status: int) -> tuple[float, float]:
    labels = {"format": protocol, "model": "other", "provider": "", "status": str(status)}
    requests = REGISTRY.get_sample_value("proxy_requests_total", labels) or 0
    return requests, REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "invalid"}) or 0


def assert_counted_once(protocol: str, status: int, before: tuple[float, float]) -> None:
    requests, invalid = before
    wait_until(lambda: rejection_counts(protocol, status)[0] > requests)
    assert rejection_counts(protocol, status) == (requests + 1, invalid + 1)


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES + 200, 100_000, 200_000])
def test_headers_over_the_limit_are_rejected_even_in_one_packet(live_gateway: LiveGateway, size: int) -> None:
    before = rejection_counts("http", 400)
    answer = exchange(live_gateway, head(size))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Too many header bytes." in answer
    assert_counted_once("http", 400, before)


def test_a_url_over_the_limit_is_rejected(live_gateway: LiveGateway) -> None:
    answer = exchange(live_gateway, b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n" % (b"a" * 100_000))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_headers_at_the_limit_are_accepted(live_gateway: LiveGateway, pieces: int) -> None:
    headers = head(MAX_HEADER_BYTES)
    assert len(headers) == MAX_HEADER_BYTES
    length = -(-len(headers) // pieces)
    parts = [headers[start : start + length] for start in range(0, len(headers), length)]
    assert exchange(live_gateway, *parts).startswith(b"HTTP/1.1 200 ")


def test_bytes_of_an_earlier_body_are_not_header_bytes(live_gateway: LiveGateway) -> None:
    """The next request may begin in the packet that ends the body."""
    body = b"x" * (MAX_HEADER_BYTES * 2)
    first = b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", live_gateway.socket.getsockname()[1]), timeout=5) as client:
        client.sendall(first)
        client.sendall(body + b"GET /health HTTP/1.1\r\nhost:")
        client.sendall(b" x\r\n\r\n")
        received = b""
        while b'"healthy"' not in received:
            part = client.recv(65536)
            assert part, received
            received += part
    assert received.startswith(b"HTTP/1.1 405 ") and b"400 Bad" not in received


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * (MAX_HEADER_COUNT + 1) + b"\r\n",
        b"POST /v1/messages HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
    ids=["TLS", "version", "field", "fields", "lengths"],
)
def test_an_invalid_request_is_counted(live_gateway: LiveGateway, sent: bytes) -> None:
    before = rejection_counts("http", 400)
    assert exchange(live_gateway, sent).startswith(b"HTTP/1.1 400 ")
    assert_counted_once("http", 400, before)


def test_an_invalid_body_is_counted_once(live_gateway: LiveGateway, transactional_db: None) -> None:
    """The view already has the request, and counts the disconnect."""
    closed = REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "client_closed"}) or 0
    before = rejection_counts("http", 400)
    start = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    exchange(live_gateway, start, b"no length\r\n")
    wait_until(
        lambda: (
            (REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "client_closed"}) or 0)
            == closed + 1
        )
    )
    assert rejection_counts("http", 400) == before


@pytest.mark.parametrize("path", [b"", b"nothing/", b"live/"])
def test_a_rejected_upgrade_is_counted(live_gateway: LiveGateway, path: bytes) -> None:
    before = rejection_counts("websocket", 403)
    answer = exchange(live_gateway, UPGRADE % path + HANDSHAKE + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert_counted_once("websocket", 403, before)


@pytest.mark.parametrize(
    ("fields", "status"),
    [(b"", 400), (b"sec-websocket-version: 1\r\n", 400), (HANDSHAKE + b"a: %s\r\n" % (b"a" * 10_000), 400)],
    ids=["no key", "version", "long field"],
)
def test_an_invalid_handshake_is_answered_and_counted(
    live_gateway: LiveGateway, fields: bytes, status: int
) -> None:
    before = rejection_counts("websocket", status)
    assert exchange(live_gateway, UPGRADE % b"" + fields + b"\r\n").startswith(b"HTTP/1.1 %d " % status)
    assert_counted_once("websocket", status, before)


def test_an_upgrade_to_another_protocol_is_an_ordinary_request(live_gateway: LiveGateway) -> None:
    headers = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2-settings": "AAMAAABkAAQAAP__",
    }
    assert httpx.get(f"{live_gateway.url}/health", headers=headers).status_code == 200


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [JsonFormatter().format(record) for record in caplog.records if record.name.startswith("django")]


def test_a_forbidden_page_is_one_short_log_line(
    project: Project, bob: User, caplog: pytest.LogCaptureFixture
) -> None:
    assert signed_in(bob).get(reverse("credential-new", args=[project.slug])).status_code == 403
    (line,) = log_lines(caplog)
    assert "exception" not in json.loads(line) and len(line) < 300


def test_a_page_for_another_host_is_one_short_log_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/accounts/login/", headers={"host": "evil.example"}).status_code == 400
    assert all("exception" not in json.loads(line) and len(line) < 400 for line in log_lines(caplog))


def test_a_server_error_is_logged_with_its_traceback() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        record = logging.LogRecord(
            "django.request", logging.ERROR, "a.py", 1, "x", (), (RuntimeError, error, None)
        )
    record.status_code = 500
    assert "broken" in json.loads(JsonFormatter().format(record))["exception"]
