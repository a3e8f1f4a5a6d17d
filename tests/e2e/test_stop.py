"""Responses to requests that are in flight at the shutdown timeout."""

import json
import signal
import socket
import time
from contextlib import ExitStack
from typing import Any

from tests.support.gateway_server import GatewayProcess

MESSAGES: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": ("/v1/chat/completions", {"messages": MESSAGES}),
    "openai_responses": ("/v1/responses", {"input": "Hi"}),
    "anthropic": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5000}),
    "gemini": ("/v1beta/models/{model}:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
}
ERROR_TYPES = {
    "openai_chat": ("type", "server_error"),
    "openai_responses": ("type", "server_error"),
    "anthropic": ("type", "overloaded_error"),
    "gemini": ("status", "UNAVAILABLE"),
}
LAST_CHUNK = b"0\r\n\r\n"


def head(
    path: str, token: str, length: int, request_id: str, content_type: str = "application/json"
) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {token}",
        f"content-type: {content_type}",
        f"x-request-id: {request_id}",
        f"content-length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def send(gateway: GatewayProcess, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    client.sendall(data)
    return client


def ask(
    gateway: GatewayProcess, token: str, format: str, model: str, *, stream: bool = False, **more: Any
) -> socket.socket:
    path, body = PATHS[format]
    if format == "gemini" and stream:
        path = path.replace("generateContent", "streamGenerateContent?alt=sse")
    elif stream:
        body = {**body, "stream": True}
    payload = json.dumps({**body, **({} if format == "gemini" else {"model": model}), **more}).encode()
    return send(gateway, head(path.format(model=model), token, len(payload), f"req_{format}") + payload)


def received(client: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def parse_response(response: bytes) -> tuple[int, dict[str, str], bytes]:
    top, _, body = response.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def wait_for_calls(gateway: GatewayProcess, count: int) -> None:
    """Wait until this many requests have a reservation."""
    for _ in range(300):
        if len(gateway.query("SELECT 1 FROM billing_reservation")) == count:
            return
        time.sleep(0.02)
    raise AssertionError("the requests did not reach the provider")


def test_a_pending_response_is_an_error_in_the_client_format(
    stuck_gateway: GatewayProcess,
) -> None:
    token = stuck_gateway.manage("create_api_key", "app", "all", "--daily-budget", "10").split()[-1]
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(ask(stuck_gateway, token, name, "gpt-4o-mini")) for name in PATHS
        }
        wait_for_calls(stuck_gateway, len(PATHS))
        assert stuck_gateway.stop(signal.SIGTERM) < 8
        responses = {name: parse_response(received(client)) for name, client in clients.items()}
    for name, (status, headers, body) in responses.items():
        field, kind = ERROR_TYPES[name]
        assert (status, headers["content-type"]) == (503, "application/json"), body
        assert json.loads(body)["error"][field] == kind and f"req_{name}" in body.decode()
        assert headers["x-request-id"] == f"req_{name}" and int(headers["retry-after"]) > 0
    query = "SELECT request_id, outcome, status_code, error FROM billing_usagerecord ORDER BY request_id"
    outcome = ("unavailable", 503, "service_unavailable")
    assert stuck_gateway.query(query) == [(f"req_{name}", *outcome) for name in sorted(PATHS)]
    assert stuck_gateway.query("SELECT * FROM billing_reservation") == []
    assert stuck_gateway.query("SELECT count(*) FROM proxy_promptlogentry") == [(len(PATHS),)]
    lines: list[str] = [line["request_id"] for line in stuck_gateway.log_lines() if "request_id" in line]
    assert sorted(lines) == [f"req_{name}" for name in sorted(PATHS)]
    assert "Traceback" not in stuck_gateway.output.read_text()


def test_a_stream_gets_an_error_event_and_its_body_ends(stuck_gateway: GatewayProcess) -> None:
    token = stuck_gateway.demo_key()
    limits: dict[str, dict[str, Any]] = {
        "openai_chat": {"max_tokens": 5000},
        "openai_responses": {"max_output_tokens": 5000},
        "anthropic": {"max_tokens": 5000},
        "gemini": {"generationConfig": {"maxOutputTokens": 5000}},
    }
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(ask(stuck_gateway, token, name, "demo/chat", stream=True, **limit))
            for name, limit in limits.items()
        }
        first_bytes = {name: client.recv(65536) for name, client in clients.items()}
        assert stuck_gateway.stop(signal.SIGTERM) < 8
        responses = {name: first_bytes[name] + received(client) for name, client in clients.items()}
    for name, response in responses.items():
        assert b"was stopped" in response and b"[DONE]" not in response, name
        assert response.endswith(LAST_CHUNK), name
    assert stuck_gateway.query("SELECT DISTINCT outcome, status_code FROM billing_usagerecord") == [
        ("unavailable", 503)
    ]
    assert len([line for line in stuck_gateway.log_lines() if "request_id" in line]) == len(PATHS)
    assert "Traceback" not in stuck_gateway.output.read_text()


def test_an_incomplete_request_gets_a_response(stuck_gateway: GatewayProcess) -> None:
    """Requests for pages are included, because Django reads their body before it calls a view."""
    token = stuck_gateway.demo_key()
    unknown = ("/nowhere/", "/v1/nowhere")
    paths = ("/accounts/login/", "/projects/", "/v1/chat/completions", "/v1/embeddings", *unknown)
    form = "application/x-www-form-urlencoded"
    with ExitStack() as stack:
        clients = [
            stack.enter_context(send(stuck_gateway, head(path, token, 100, "req_1", form) + b"{"))
            for path in paths
        ]
        time.sleep(0.5)
        assert stuck_gateway.stop(signal.SIGTERM) < 8
        responses = {
            path: parse_response(received(client)) for path, client in zip(paths, clients, strict=True)
        }
    for path, (status, headers, body) in responses.items():
        if path in unknown:
            assert status == 404, "it needs no body"
            continue
        assert (status, int(headers["retry-after"]) > 0) == (503, True) and b"was stopped" in body, path
    assert "Traceback" not in stuck_gateway.output.read_text()
