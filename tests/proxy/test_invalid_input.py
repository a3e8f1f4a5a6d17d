"""Invalid input gets a clear 4xx in OpenAI's form, and one record or one count."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from billing.models import UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy import telemetry
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}


def outcome_count(outcome: str) -> float:
    return float(telemetry.outcomes.labels(outcome)._value.get())


def assert_error(response: httpx.Response, status: int, kind: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, kind)
    assert error["message"] and error["code"] and error["request_id"] == response.headers["x-request-id"]


BODIES = {
    "missing": b"",
    "blank": b"  \n",
    "cut off": b'{"model": "gpt-4o-mini", "messages": [',
    "no JSON": b"model=gpt-4o-mini",
    "an array": b"[]",
    "a string": b'"hello"',
    "null": b"null",
    "no model": b'{"messages": [{"role": "user"}]}',
    "model is a number": b'{"model": 5, "messages": [{}]}',
    "model is empty": b'{"model": "", "messages": [{}]}',
    "model is very long": b'{"model": "%s", "messages": [{}]}' % (b"m" * 100_000),
    "no messages": b'{"model": "gpt-4o-mini"}',
    "messages are a string": b'{"model": "gpt-4o-mini", "messages": "hi"}',
    "messages are empty": b'{"model": "gpt-4o-mini", "messages": []}',
    "messages hold a string": b'{"model": "gpt-4o-mini", "messages": ["hi"]}',
    "stream is a word": b'{"model": "gpt-4o-mini", "messages": [{}], "stream": "yes"}',
    "max_tokens is negative": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": -1}',
    "max_tokens is zero": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": 0}',
    "max_tokens is huge": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": 1000000000000000000}',
    "max_tokens is a word": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": "many"}',
    "max_tokens has a million digits": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": %s}'
    % (b"9" * 1_000_000),
    "n is a million": b'{"model": "gpt-4o-mini", "messages": [{}], "n": 1000000}',
    "not a number": b'{"model": "gpt-4o-mini", "messages": [{}], "max_tokens": NaN}',
    "bad UTF-8": b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "a lone surrogate": b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "nested too deeply": b'{"model": "gpt-4o-mini", "messages": [{"a": %s1%s}]}'
    % (b"[" * 100_000, b"]" * 100_000),
    "nested deeply beside": b'{"model": "gpt-4o-mini", "messages": [{}], "x": %s1%s}'
    % (b"[" * 100_000, b"]" * 100_000),
    "walks too deeply": b'{"model": "gpt-4o-mini", "messages": [{"content": %s1%s}]}'
    % (b"[" * 900, b"]" * 900),
}


@pytest.mark.parametrize("name", BODIES)
def test_non_request_body_is_rejected(gateway: httpx.Client, upstream: LocalUpstream, name: str) -> None:
    assert_error(gateway.post("/v1/chat/completions", content=BODIES[name]), 400, "invalid_request")
    record = only_record()
    assert (record.outcome, record.status_code, record.cost_nano) == ("invalid", 400, 0)
    assert not upstream.requests


def test_the_invalid_field_is_named(gateway: httpx.Client) -> None:
    error = gateway.post("/v1/chat/completions", content=BODIES["stream is a word"]).json()["error"]
    assert error["param"] == "stream" and "stream" in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"model": "demo/embed"}', b'{"model": "demo/embed", "input": {"a": 1}}']
)
def test_embeddings_validate_their_body_too(gateway: httpx.Client, body: bytes) -> None:
    assert_error(gateway.post("/v1/embeddings", content=body), 400, "invalid_request")


INVALID_TOKENS = [
    "x",
    "sk-gw_",
    "sk-gw_" + "a" * 51,
    "sk-gw_'; DROP TABLE keys; --",
    'sk-gw_"quoted"',
    "\xe9\xe9",
    "null",
    "a b c",
    "x" * 60_000,
]


@pytest.mark.parametrize("token", INVALID_TOKENS, ids=range(len(INVALID_TOKENS)))
def test_malformed_token_is_a_generic_401(
    live_gateway: LiveGateway, transactional_db: None, token: str
) -> None:
    before = outcome_count("auth")
    headers = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=CHAT, headers=headers)
    assert_error(response, 401, "auth")
    assert response.json()["error"]["message"] == "The API key is not valid, has expired or was revoked."
    assert outcome_count("auth") == before + 1 and not UsageRecord.objects.exists()


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "x-goog-api-key"])
def test_a_key_is_read_from_where_each_sdk_sends_it(live_gateway: LiveGateway, token: str, name: str) -> None:
    value = f"bearer {token}" if name == "authorization" else token
    assert httpx.get(f"{live_gateway.url}/v1/models", headers={name: value}).status_code == 200
    assert httpx.get(f"{live_gateway.url}/v1/models", params={"key": token}).status_code == 200


def test_missing_key_error_explains_how_to_send_one(
    live_gateway: LiveGateway, transactional_db: None
) -> None:
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=CHAT)
    assert_error(response, 401, "auth")
    assert "Authorization: Bearer" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_a_405_that_names_the_allowed_one(gateway: httpx.Client, method: str) -> None:
    response = gateway.request(method, "/v1/chat/completions")
    assert_error(response, 405, "invalid_request")
    assert response.headers["allow"] == "POST"
    assert only_record().status_code == 405


@pytest.mark.parametrize("path", ["/v1/nothing", "/openai/v1/", "/v1", "/v1/chat/completions/x"])
def test_an_unknown_path_is_a_404_in_the_same_form(gateway: httpx.Client, path: str) -> None:
    assert_error(gateway.post(path, json=CHAT), 404, "invalid_request")
    assert only_record().status_code == 404


def test_unknown_and_repeated_headers_are_ignored(live_gateway: LiveGateway, token: str) -> None:
    headers = [
        ("authorization", f"Bearer {token}"),
        ("x-odd", "1"),
        ("x-odd", "2"),
        ("content-type", "a/b"),
        ("content-type", "c"),
        ("accept", ""),
    ]
    assert (
        httpx.post(
            f"{live_gateway.url}/v1/chat/completions", json={**CHAT, "model": "demo/chat"}, headers=headers
        ).status_code
        == 200
    )


@pytest.mark.parametrize("given", ["x" * 129, "naïve", "a\tb", ""])
def test_an_unusable_request_id_is_replaced(gateway: httpx.Client, given: str) -> None:
    response = gateway.get("/v1/models", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert response.headers["x-request-id"].startswith("req_")


def test_a_model_name_cannot_inject_a_header(gateway: httpx.Client) -> None:
    response = gateway.post("/v1/chat/completions", json={**CHAT, "model": "openai/x\r\nset-cookie: a=b"})
    assert "set-cookie" not in response.headers and response.status_code == 400
    odd = gateway.post("/v1/chat/completions", json={**CHAT, "model": "openai/Grüße 世界"})
    assert odd.status_code == 200 and odd.headers["x-gateway-model"] == "Grüße ??"


OVER = 33 * 2**20


def pieces() -> Iterator[bytes]:
    for _ in range(OVER // 2**16):
        yield b"x" * 2**16


@pytest.mark.parametrize("known", [True, False], ids=["with a key", "without"])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "chunked"])
def test_a_body_over_the_cap_is_a_413(
    live_gateway: LiveGateway, token: str, known: bool, sized: bool
) -> None:
    headers = {"authorization": f"Bearer {token}"} if known else {}
    content = b"x" * OVER if sized else pieces()
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions", content=content, headers=headers, timeout=30
    )
    assert_error(response, 413, "invalid_request")
    assert "connection" not in response.headers
    if known:
        only_record()
    assert UsageRecord.objects.count() == (1 if known else 0)


@pytest.mark.parametrize(
    "lines", [[f"h{n}: v" for n in range(300)], ["big: " + "x" * 70_000]], ids=["many", "large"]
)
def test_headers_are_capped_while_they_arrive(live_gateway: LiveGateway, lines: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", live_gateway.socket.getsockname()[1]), timeout=5) as client:
        client.sendall(("GET /v1/models HTTP/1.1\r\nhost: x\r\n" + "\r\n".join(lines)).encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_scopes_and_allowed_models_are_enforced(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    _, embeddings_only = ApiKey.objects.issue(demo_project, "a", scopes=["post:/openai/v1/embeddings"])
    _, demo_only = ApiKey.objects.issue(demo_project, "b", scopes=["inference"], allowed_models=["demo/chat"])
    url = f"{live_gateway.url}/v1/chat/completions"
    assert_error(httpx.post(url, json=CHAT, headers={"x-api-key": embeddings_only}), 403, "auth")
    assert_error(httpx.post(url, json=CHAT, headers={"x-api-key": demo_only}), 403, "auth")
    assert (
        httpx.post(url, json={**CHAT, "model": "demo/chat"}, headers={"x-api-key": demo_only}).status_code
        == 200
    )
    embedded = httpx.post(
        f"{live_gateway.url}/v1/embeddings",
        json={"model": "demo/embed", "input": "x"},
        headers={"x-api-key": embeddings_only},
    )
    assert embedded.status_code == 200
    listed = httpx.get(f"{live_gateway.url}/v1/models", headers={"x-api-key": demo_only}).json()
    assert [model["id"] for model in listed["data"]] == ["demo/chat"]
    assert not upstream.requests


def test_an_unknown_model_is_a_404(live_gateway: LiveGateway, transactional_db: None) -> None:
    _, token = ApiKey.objects.issue(Project.objects.create_with_owner("Other"), "a")
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions",
        json={**CHAT, "model": "no-such"},
        headers={"x-api-key": token},
    )
    assert_error(response, 404, "unknown_model")
    assert httpx.get(f"{live_gateway.url}/v1/models/no-such", headers={"x-api-key": token}).status_code == 404
    assert (
        json.loads(httpx.get(f"{live_gateway.url}/v1/models/demo/chat", headers={"x-api-key": token}).text)[
            "id"
        ]
        == "demo/chat"
    )
