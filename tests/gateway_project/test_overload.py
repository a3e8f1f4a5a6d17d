"""An overloaded process refuses requests in the client's format, before it works on them."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from billing.models import UsageRecord
from keys.authentication import principals
from projects import config_cache
from proxy.http.load_shedder import load_shedder
from tests.support.live_gateway import LiveGateway, only_record, wait_until

PATHS = {
    "openai": ("/v1/chat/completions", ("error", "code"), "overloaded"),
    "openai responses": ("/v1/responses", ("error", "code"), "overloaded"),
    "anthropic": ("/anthropic/v1/messages", ("error", "type"), "overloaded_error"),
    "gemini": ("/v1beta/models/demo/chat:generateContent", ("error", "status"), "UNAVAILABLE"),
    "gateway": ("/api/v1/usage/stats", ("error", "code"), "overloaded"),
}
CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}]}


def shed_count(**labels: str) -> float:
    return REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "shed", **labels}) or 0


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, live_gateway: LiveGateway) -> Iterator[None]:
    """Fill the process with requests of another project."""
    monkeypatch.setattr(load_shedder, "limit", 1)
    assert load_shedder.enter("other")
    yield
    load_shedder.leave("other")


@pytest.mark.parametrize("path", PATHS)
def test_overload_is_a_503_in_the_client_format(gateway: httpx.Client, full: None, path: str) -> None:
    url, (outer, inner), expected = PATHS[path]
    before = shed_count()
    response = gateway.request("GET" if path == "gateway" else "POST", url, headers={"x-request-id": "mine"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()[outer][inner] == expected
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["content-type"] == "application/json"
    assert shed_count() == before + 1
    assert not UsageRecord.objects.exists()


def test_the_connection_of_a_refused_request_can_be_used_again(
    live_gateway: LiveGateway, full: None, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}) as client:
        large = {**CHAT, "messages": [{"role": "user", "content": "x" * 300_000}]}
        responses = [client.post("/v1/chat/completions", json=large) for _ in range(3)]
        port = {each.extensions["network_stream"].get_extra_info("client_addr")[1] for each in responses}
        monkeypatch.setattr(load_shedder, "limit", 100)
        last = client.post("/v1/chat/completions", json=CHAT)
        port |= {last.extensions["network_stream"].get_extra_info("client_addr")[1]}
    assert [each.status_code for each in (*responses, last)] == [503, 503, 503, 200]
    assert len(port) == 1
    assert only_record().outcome == "ok"


def test_a_client_that_waits_for_100_continue_gets_the_refusal(
    live_gateway: LiveGateway, full: None, token: str
) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        "expect: 100-continue\r\ncontent-length: 100\r\n\r\n"
    )
    address = ("127.0.0.1", live_gateway.socket.getsockname()[1])
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(head.encode())
        response = b"".join(iter(lambda: client.recv(65536), b""))
    top, _, body = response.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 503 Service Unavailable") and b"connection: close" in top
    assert json.loads(body)["error"]["code"] == "overloaded"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/accounts/login/"])
def test_health_and_pages_are_served_under_overload(live_gateway: LiveGateway, full: None, path: str) -> None:
    assert httpx.get(live_gateway.url + path).status_code == 200


def test_a_project_above_its_share_is_refused_and_another_is_served(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> httpx.Response:
        return gateway.post("/v1/chat/completions", json=CHAT)

    monkeypatch.setattr(load_shedder, "limit", 10)
    assert ask().status_code == 200, "its key is in the cache now"
    busy = "demo"
    assert all(load_shedder.enter(busy) for _ in range(8))
    try:
        refused = ask()
        for _ in range(5):
            load_shedder.leave(busy)
        assert all(load_shedder.enter("other") for _ in range(5))
        served = ask()
    finally:
        for _ in range(3):
            load_shedder.leave(busy)
        for _ in range(5):
            load_shedder.leave("other")
    assert (refused.status_code, served.status_code) == (503, 200)
    wait_until(lambda: UsageRecord.objects.count() == 2)


def test_a_key_that_is_not_cached_is_refused_after_authentication(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not know its project, so the refusal leaves it to the view."""
    monkeypatch.setattr(load_shedder, "limit", 10)
    config_cache.clear_all()
    assert not principals.values
    assert all(load_shedder.enter("demo") for _ in range(8))
    before = shed_count()
    try:
        response = gateway.post("/v1/chat/completions", json=CHAT)
    finally:
        for _ in range(8):
            load_shedder.leave("demo")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
    assert shed_count() == before + 1
    assert not UsageRecord.objects.exists()


def test_metrics_show_the_load(gateway: httpx.Client, full: None) -> None:
    def sample(name: str, **labels: Any) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    before = sample("gateway_shed_requests_total", reason="limit")
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 503
    assert sample("gateway_shed_requests_total", reason="limit") == before + 1
    assert sample("gateway_concurrent_requests") == 1
    assert sample("gateway_concurrent_requests_limit") == 1
