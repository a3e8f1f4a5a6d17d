"""Keys that clients send in the wrong place do not appear in records, logs or errors."""

import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from billing.models import UsageRecord
from gateway_project import logging
from keys import tokens
from projects.redaction import contains_key, redact
from tests.support.cluster import own_servers
from tests.support.gateway_server import CHAT, GatewayProcess
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

GATEWAY_KEY = str(tokens.Token("abcdefghijkl", "0123456789" * 3 + "ab"))
KEYS = {
    "ours": GATEWAY_KEY,
    "part of ours": GATEWAY_KEY[:30],
    "OpenAI": "sk-proj-T3BlbkFJ-abc_DEF0123456789",
    "OpenAI, older": "sk-" + "a1B2" * 12,
    "Anthropic": "sk-ant-api03-" + "x_Y-9" * 19,
    "Google": "AIzaSy" + "A-b_3" * 6 + "abc",
    "xAI": "xai-" + "q1W2e3" * 14,
    "Groq": "gsk_" + "q1W2e3" * 9,
}
SECRET_PARTS = {name: key[12:] for name, key in KEYS.items()}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "around", ["{}", "openai/{}", "“{}”", "a\n{}\tb", "?key={}&a=b", "models/{}:generateContent"]
)
def test_a_key_is_replaced_by_its_prefix(name: str, around: str) -> None:
    text = around.format(KEYS[name])
    assert contains_key(text)
    for shown in (redact(text), logging.encode({"text": text}).decode()):
        assert SECRET_PARTS[name] not in shown and "…" in shown
    assert redact(redact(text)) == redact(text)
    assert json.loads(logging.encode({"text": text, "n": 1}))["n"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o-mini",
        "task-classification-large-v2",
        "disk-0123456789abcdefghij",
        "ft:gpt-4o:acme::AbCdEfGh",
        "sk-learn",
        "xai-grok-4",
    ],
)
def test_names_of_models_stay(name: str) -> None:
    assert redact(name) == name and not contains_key(name)


def send(
    gateway: LiveGateway, token: str, path: str, body: Mapping[str, object], **headers: str
) -> httpx.Response:
    headers["authorization"] = f"Bearer {token}"
    return httpx.post(f"{gateway.url}{path}", json=body, headers=headers)


@pytest.mark.databases
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "{}"}),
        ("/v1/chat/completions", {**CHAT, "model": "openai/{}"}),
        ("/v1/responses", {"model": "{}", "input": "Hi"}),
        ("/v1/messages", {"model": "{}", "max_tokens": 5, "messages": CHAT["messages"]}),
        ("/v1beta/models/{}:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
        ("/v1/embeddings", {"model": "{}", "input": "Hi"}),
    ],
)
def test_a_key_as_model_name_is_rejected_and_redacted(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    token: str,
    name: str,
    path: str,
    body: dict[str, object],
) -> None:
    key = KEYS[name]
    written = body | {"model": str(body["model"]).format(key)} if "model" in body else body
    answer = send(live_gateway, token, path.format(key), written)
    assert answer.status_code == 400 and SECRET_PARTS[name] not in answer.text and "API key" in answer.text
    record = only_record()
    assert record.requested_model.endswith("…") and SECRET_PARTS[name] not in str(
        UsageRecord.objects.values().get()
    )
    assert not upstream.requests


@pytest.mark.databases
@pytest.mark.parametrize("name", KEYS)
def test_a_key_as_a_requests_id_is_not_used(live_gateway: LiveGateway, token: str, name: str) -> None:
    answer = send(live_gateway, token, "/v1/chat/completions", CHAT, **{"x-request-id": f"my-{KEYS[name]}"})
    assert answer.status_code == 200 and answer.headers["x-request-id"].startswith("req_")
    assert only_record().request_id == answer.headers["x-request-id"]


@pytest.mark.databases
def test_a_key_as_idempotency_key_is_rejected(live_gateway: LiveGateway, token: str) -> None:
    answer = send(live_gateway, token, "/v1/chat/completions", CHAT, **{"idempotency-key": GATEWAY_KEY})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "idempotency_key_malformed"
    assert GATEWAY_KEY not in answer.text


@pytest.mark.databases
@pytest.mark.parametrize("name", KEYS)
def test_an_error_does_not_repeat_a_key(live_gateway: LiveGateway, token: str, name: str) -> None:
    key, headers = KEYS[name], {"authorization": f"Bearer {token}"}
    for path in (f"/v1/{key}", f"/v1/models/{key}", f"/v1beta/models/{key}"):
        answer = httpx.get(f"{live_gateway.url}{path}", headers=headers)
        assert SECRET_PARTS[name] not in answer.text or answer.status_code == 200
    answer = send(
        live_gateway, token, "/v1/chat/completions", {**CHAT, "tools": {key: key}, key: 1, "max_tokens": "x"}
    )
    assert answer.status_code == 400 and SECRET_PARTS[name] not in answer.text


@pytest.mark.databases
def test_a_key_in_any_part_of_a_request_is_in_no_log_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with own_servers() as servers:
        gateway = GatewayProcess(data, **servers).start()
        try:
            token = gateway.demo_key()
            for key in KEYS.values():
                headers = {
                    "authorization": f"Bearer {token}",
                    "x-request-id": key,
                    "user-agent": key,
                    "referer": f"http://x/{key}",
                }
                for path in (
                    "/v1/chat/completions",
                    f"/v1/{key}",
                    f"/v1/models/{key}?key={key}",
                    f"/nowhere/{key}",
                    f"/api/{key}",
                    f"/api/costs/{key}",
                ):
                    body = {**CHAT, "model": key, "user": key, "metadata": {key: key}}
                    httpx.post(f"{gateway.url}{path}", json=body, headers=headers)
                    httpx.get(f"{gateway.url}{path}", headers=headers)
        finally:
            gateway.stop()
        written = gateway.output.read_text()
        assert "chat_completions" in written or "chat" in written
        assert [name for name, part in SECRET_PARTS.items() if part in written] == []
