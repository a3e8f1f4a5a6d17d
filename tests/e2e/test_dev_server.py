"""`script/dev`: daphne serves everything, reloads on save, and settles requests when it stops."""

import os
import signal
import time

import httpx
import pytest

from tests.support.gateway_server import CHAT, GatewayProcess

RELOAD_TIMEOUT_S = 60


def test_pages_and_gateway_routes_are_served(dev_server: GatewayProcess, dev_token: str) -> None:
    assert dev_server.post(dev_token).json()["usage"]["completion_tokens"] == 64
    stream = dev_server.post(dev_token, stream=True)
    assert stream.text.endswith("data: [DONE]\n\n") and stream.headers["server"] == "daphne"
    assert httpx.get(f"{dev_server.url}/accounts/login/").status_code == 200
    assert httpx.get(f"{dev_server.url}/static/css/tokens.css").status_code == 200


def test_a_websocket_handshake_reaches_the_application(dev_server: GatewayProcess) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert httpx.get(f"{dev_server.url}/unknown/", headers=headers).status_code == 403


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_request_that_offers_another_protocol_is_answered_at_once(
    dev_server: GatewayProcess, dev_token: str, protocol: str
) -> None:
    headers = {
        "authorization": f"Bearer {dev_token}",
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": protocol,
        "http2-settings": "AAEAAEAAAAIAAAAB",
    }
    response = httpx.post(f"{dev_server.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=10)
    assert response.status_code == 200
    models = httpx.get(f"{dev_server.url}/v1/models", headers=headers, timeout=10)
    assert models.status_code == 200
    assert httpx.get(f"{dev_server.url}/v1/responses", headers=headers, timeout=10).status_code == 405


def test_requests_are_settled_when_the_server_reloads(dev_server: GatewayProcess, dev_token: str) -> None:
    starts = count_starts(dev_server)
    with dev_server.open_stream(dev_token, max_tokens=30_000) as stream:
        os.utime(dev_server.data.parent / "modules" / "sitecustomize.py")
        received = b"".join(iter(lambda: stream.recv(65536), b""))
    assert b'"code":"service_unavailable"' in received
    deadline = time.monotonic() + RELOAD_TIMEOUT_S
    while count_starts(dev_server) == starts or not dev_server.ready():
        assert time.monotonic() < deadline, dev_server.output.read_text()
        time.sleep(0.1)
    assert_settled(dev_server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_requests_are_settled_when_the_server_stops(
    dev_server: GatewayProcess, dev_token: str, number: signal.Signals
) -> None:
    with dev_server.open_stream(dev_token, max_tokens=30_000):
        if number == signal.SIGINT:
            dev_server.press_ctrl_c()
        else:
            dev_server.stop(number)
    assert_settled(dev_server)


def count_starts(server: GatewayProcess) -> int:
    return server.output.read_text().count("Starting ASGI/Daphne")


def assert_settled(server: GatewayProcess) -> None:
    """The last request got a 503, and no reservation is left for the next start to settle."""
    newest = "SELECT status_code, outcome FROM billing_usagerecord ORDER BY id DESC LIMIT 1"
    assert server.query(newest) == [(503, "unavailable")]
    assert server.query("SELECT count(*) FROM billing_reservation") == [(0,)]
    assert not any(line.get("event") == "orphaned_reservations_settled" for line in server.log_lines())
