"""Members of tool groups at providers: their names of any length, and their calls."""

import json
from typing import Any

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import parse_object
from proxy.pipeline.conversion import ConvertedRequest
from tests.proxy.formats.golden.builders import (
    SCHEMA,
    Body,
    anthropic_response,
    chat_response,
    function,
    gemini_response,
    openai_responses_request,
)
from tests.proxy.formats.golden.cells import encode_body
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.proxy.formats.test_fuzz import CLIENT_REQUEST_TYPES
from tests.support.converted_requests import converted_request

SERVER, MEMBER = "mcp__company.example/" + "s" * 60, "search the customers.v2"
ARGUMENTS = {"city": "Paris"}
TOOLS: list[Body] = [
    {
        "type": "namespace",
        "name": SERVER,
        "description": "The customers.",
        "tools": [{"type": "function", **function(MEMBER, parameters=SCHEMA)}],
    }
]
MODELS = {"openai_chat": "gpt-4o", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-flash"}
providers = pytest.mark.parametrize("provider", MODELS)


def plan(provider: str, **fields: Any) -> ConvertedRequest:
    body = openai_responses_request(
        {"role": "user", "content": "Hi"},
        {
            "type": "function_call",
            "call_id": "call_1",
            "namespace": SERVER,
            "name": MEMBER,
            "arguments": json.dumps(ARGUMENTS),
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "One"},
        tools=TOOLS,
        **fields,
    )
    client = CLIENT_REQUEST_TYPES["openai_responses"](encode_body(body))
    destination = Destination("compatible", provider, MODELS[provider])
    return converted_request(client, "openai_responses", destination)


def names_in(value: Any) -> set[str]:
    """Return the names of tools in a request: of declarations, calls and results."""
    match value:
        case dict():
            inner = set().union(*map(names_in, value.values())) if value else set()
            name = value.get("name")
            return inner | ({name} if isinstance(name, str) else set())
        case list():
            return set().union(*map(names_in, value)) if value else set()
        case _:
            return set()


def response_with_call(provider: str, name: str) -> Body:
    match provider:
        case "openai_chat":
            call = {"name": name, "arguments": json.dumps(ARGUMENTS)}
            return chat_response(
                {"tool_calls": [{"id": "c", "type": "function", "function": call}]}, "tool_calls"
            )
        case "anthropic":
            return anthropic_response({"type": "tool_use", "id": "c", "name": name, "input": ARGUMENTS})
        case _:
            return gemini_response({"functionCall": {"id": "c", "name": name, "args": ARGUMENTS}})


@providers
def test_one_valid_name_stands_for_a_member_everywhere(provider: str) -> None:
    sent = parse_object(plan(provider).render_upstream(None).body)
    (name,) = names_in(sent)
    assert len(name) <= (64 if provider == "openai_chat" else 128)
    assert name.replace("_", "").replace("-", "").isalnum()


@providers
@pytest.mark.parametrize("stream", [False, True])
def test_call_comes_back_with_the_client_s_names(provider: str, stream: bool) -> None:
    request = plan(provider, stream=stream)
    (name,) = names_in(parse_object(request.render_upstream(None).body))
    answer = response_with_call(provider, name)
    if stream:
        meter = request.meter()
        received = meter.feed(stream_of(provider, answer)) + meter.finish()
        output = read_stream("openai_responses", received)["output"]
    else:
        output = json.loads(request.parse_response(encode_body(answer)).render())["output"]
    (call,) = [item for item in output if item["type"] == "function_call"]
    assert (call["namespace"], call["name"]) == (SERVER, MEMBER)
    assert json.loads(call["arguments"]) == ARGUMENTS
