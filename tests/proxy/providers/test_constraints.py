"""Converted requests meet the constraints of their provider, and the changes are reported."""

import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, Period
from billing.pricing import bundled_price
from projects.models import Project
from proxy.formats.openai_responses import ResponsesRequest
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.support.moved_providers import ReachProvider
from tests.support.upstream_server import LocalUpstream

CLAUDE_CODE_USER = f"user_{'a' * 64}_account_{'b' * 36}_session_{'c' * 61}"
LONG_NAME = "mcp__ticket_system__list_all_pipeline_jobs_of_a_merge_request_with_logs"
USER = {"role": "user", "content": "Hi"}
USD = 10**9


def sent(upstream: LocalUpstream) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(upstream.requests[-1].body)
    return body


def named(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry for entry in response.headers.get("x-gateway-dropped", "").split(", ") if entry]


def messages(gateway: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return gateway.post("/v1/messages", json={"model": model, "max_tokens": 50, "messages": [USER], **fields})


def chat(gateway: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json={"model": model, "messages": [USER], **fields})


def weather(name: str, key: str = "city") -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {key: {"type": "string"}}}}


def call_first_tool(body: dict[str, Any]) -> dict[str, Any]:
    """Return a response of chat completions that calls the first tool with its first argument."""
    function = body["tools"][0]["function"]
    arguments = json.dumps(dict.fromkeys(function["parameters"]["properties"], "Paris"))
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return {"id": "c", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def use_first_tool(body: dict[str, Any]) -> dict[str, Any]:
    """Return a response of Anthropic that calls the first tool with its first argument."""
    tool = body["tools"][0]
    arguments = dict.fromkeys(tool["input_schema"]["properties"], "Paris")
    block = {"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": arguments}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [block]}
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {**head, "stop_reason": "tool_use", "stop_sequence": None, "usage": usage}


async def stream(request: web.Request, pieces: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    return response


async def call_the_tool(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    is_claude = request.path.endswith("/messages")
    response = use_first_tool(body) if is_claude else call_first_tool(body)
    if not body.get("stream"):
        return web.json_response(response)
    return await stream(request, [stream_of("anthropic" if is_claude else "openai_chat", response)])


def test_the_user_of_claude_code_reaches_openai_hashed(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("openai")
    asked = [messages(gateway, "openai/gpt-4o", metadata={"user_id": CLAUDE_CODE_USER}) for _ in range(2)]
    assert [named(response) for response in asked] == [["user;changed=hashed"]] * 2
    users = {json.loads(request.body)["user"] for request in upstream.requests}
    assert len(users) == 1 and len(users.pop()) == 64


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_long_name_of_a_tool_comes_back_to_its_client(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, is_stream: bool
) -> None:
    reach_provider("groq")
    upstream.handler = call_the_tool
    response = messages(gateway, "groq/openai/gpt-oss-120b", tools=[weather(LONG_NAME)], stream=is_stream)
    assert named(response) == []
    assert len(sent(upstream)["tools"][0]["function"]["name"]) <= 64
    body = read_stream("anthropic", response.content) if is_stream else response.json()
    assert [(block["name"], block["input"]) for block in body["content"]] == [(LONG_NAME, {"city": "Paris"})]


@pytest.mark.parametrize("is_stream", [False, True])
def test_names_of_arguments_come_back_to_their_client(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, is_stream: bool
) -> None:
    reach_provider("anthropic")
    upstream.handler = call_the_tool
    parameters = {"type": "object", "properties": {"$filter": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    streaming = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    response = chat(gateway, "anthropic/claude-haiku-4-5", tools=[tool], **streaming)
    assert "$filter" not in sent(upstream)["tools"][0]["input_schema"]["properties"]
    body = read_stream("openai_chat", response.content) if is_stream else response.json()
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"$filter": "Paris"}


def test_an_output_limit_is_lowered_before_it_is_reserved(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    """4,096 tokens of this model cost less than a cent; a million tokens would cost more than a dollar."""
    Budget.objects.create(project=demo_project, period=Period.DAY, limit_nano=USD // 50)
    reach_provider("anthropic")
    response = chat(gateway, "anthropic/claude-3-haiku-20240307", max_tokens=1_000_000)
    assert named(response) == ["max_tokens;changed=lowered"]
    assert sent(upstream)["max_tokens"] == 4096


@pytest.mark.parametrize(("output", "status"), [(10, 429), (20, 200)])
def test_a_budget_sets_no_output_limit_that_the_api_rejects(
    reach_provider: ReachProvider,
    gateway: httpx.Client,
    upstream: LocalUpstream,
    demo_project: Project,
    output: int,
    status: int,
) -> None:
    """OpenAI's Responses API takes no limit below 16 tokens, not even the gateway's own."""
    body = {"model": "openai/gpt-4o-mini", "input": "Hi"}
    facts, price = ResponsesRequest(json.dumps(body).encode()).facts, bundled_price("openai", "gpt-4o-mini")
    assert price is not None
    max_cost = price.max_cost(facts.service_tier, facts.max_billable_extras)
    affordable = max_cost.upper_bound(facts.max_input_tokens, output)
    Budget.objects.create(project=demo_project, period=Period.DAY, limit_nano=affordable)
    reach_provider("openai")
    response = gateway.post("/v1/responses", json=body)
    assert response.status_code == status, response.text
    assert [json.loads(request.body)["max_output_tokens"] for request in upstream.requests] == (
        [20] if status == 200 else []
    )


@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-6", "gpt-6-astra", "gpt-6.2-sol"])
def test_tools_of_newer_models_go_by_responses(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, model: str
) -> None:
    reach_provider("openai")
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    fields = {"tools": [weather("f")], "thinking": thinking, "max_tokens": 20_000}
    response = messages(gateway, f"openai/{model}", **fields)
    assert (response.status_code, response.json()["content"]) == (200, [{"type": "text", "text": "Hello"}])
    assert upstream.requests[-1].path.endswith("/openai_responses/responses")
    assert sent(upstream)["reasoning"]["effort"] == "high"
    messages(gateway, f"openai/{model}")
    assert upstream.requests[-1].path.endswith("/openai_chat/chat/completions")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gpt-5.4", "/openai_chat/chat/completions"),
        ("gpt-5.6-sol", "/openai_chat/chat/completions"),
        # These models cannot turn reasoning off, so chat completions never accept their tools.
        ("gpt-6-astra", "/openai_responses/responses"),
        ("gpt-6.2-sol", "/openai_responses/responses"),
    ],
)
def test_tools_without_an_effort_go_by_chat_if_reasoning_can_be_off(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, model: str, path: str
) -> None:
    reach_provider("openai")
    response = messages(gateway, f"openai/{model}", tools=[weather("f")])
    assert (response.status_code, named(response)) == (200, [])
    assert upstream.requests[-1].path.endswith(path)
    assert sent(upstream).get("reasoning_effort") == ("none" if "chat" in path else None)


def test_tools_of_a_stream_by_responses_reach_their_client(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("openai")

    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"}
        item |= {"name": body["tools"][0]["name"], "arguments": '{"city": "Paris"}'}
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
        return await stream(
            request, [stream_of("openai_responses", {**head, "output": [item], "usage": usage})]
        )

    upstream.handler = call
    response = messages(gateway, "openai/gpt-6-astra", tools=[weather(LONG_NAME)], stream=True)
    (block,) = read_stream("anthropic", response.content)["content"]
    assert (block["name"], block["input"]) == (LONG_NAME, {"city": "Paris"})


def test_an_error_of_responses_reaches_a_client_of_messages(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("openai")

    async def reject(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        error = {"message": "No such tool.", "type": "invalid_request_error", "param": "tools", "code": None}
        return web.json_response({"error": error}, status=400)

    upstream.handler = reject
    response = messages(gateway, "openai/gpt-6-astra", tools=[weather("f")])
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "No such tool." in response.json()["error"]["message"]


def test_azure_gets_tools_of_newer_models_without_reasoning(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("azure")
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    fields = {"tools": [weather("f")], "thinking": thinking, "max_tokens": 20_000}
    assert named(messages(gateway, "azure/gpt-5.4", **fields)) == ["reasoning"]
    assert sent(upstream)["reasoning_effort"] == "none"
