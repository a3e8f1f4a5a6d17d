"""Requests whose history contains seals, and that pass through to a provider."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.formats.neutral import Thinking
from proxy.formats.seals import PREFIX, seal
from tests.support.operator_accounts import operator_accounts
from tests.support.strict_provider.provider import StrictProvider
from tests.support.upstream_server import LocalUpstream

CLAUDE = "anthropic/claude-sonnet-4-5"
SEALED = seal(Thinking(text="Hm.", signature="gAAA", origin="openai_responses"))
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": SEALED}
CALL = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
TOOLS = [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


def conversation(call: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [THOUGHT, call]},
        {"role": "user", "content": [result]},
    ]


MESSAGES: dict[str, Any] = {
    "model": CLAUDE,
    "messages": conversation(CALL, {"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}),
    "tools": TOOLS,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}


@pytest.fixture(autouse=True)
def provider(gateway: httpx.Client, upstream: LocalUpstream, tmp_path: Path) -> Iterator[StrictProvider]:
    provider = StrictProvider()
    upstream.handler = provider.respond
    config = tmp_path / "gateway.yaml"
    config.write_text("models: []\n")
    with operator_accounts(upstream.url.removesuffix("/v1"), config):
        yield provider


def sent(upstream: LocalUpstream) -> dict[str, Any]:
    assert PREFIX.encode() not in upstream.requests[-1].body
    body: dict[str, Any] = json.loads(upstream.requests[-1].body)
    return body


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_goes_on_and_the_dropped_thinking_is_named(
    gateway: httpx.Client, upstream: LocalUpstream, stream: bool
) -> None:
    response = gateway.post("/v1/messages", json=MESSAGES | {"max_tokens": 2000, "stream": stream})
    assert (response.status_code, response.headers["x-gateway-dropped"]) == (200, "thinking")
    assert sent(upstream)["messages"][1]["content"] == [CALL]


def test_tokens_of_seals_are_not_counted(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    assert gateway.post("/v1/messages/count_tokens", json=MESSAGES).status_code == 200
    assert upstream.requests[-1].path.endswith("/count_tokens")
    assert sent(upstream)["messages"][1]["content"] == [CALL]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact", "/v1/responses/input_tokens"])
def test_every_endpoint_of_responses_takes_seals_out(
    gateway: httpx.Client, upstream: LocalUpstream, path: str
) -> None:
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    sealed = seal(Thinking(text="Hm.", signature="EqQB", origin="anthropic"))
    reasoning = {"type": "reasoning", "id": "rs_gateway1", "summary": [], "encrypted_content": sealed}
    gateway.post(path, json={"model": "openai/gpt-5.2", "input": [message, reasoning, message]})
    assert sent(upstream)["input"] == [message, message]
