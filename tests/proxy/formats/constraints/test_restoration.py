"""Responses and streams contain the client's original names again, in every pair of formats."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.formats.constraints.adaptation import adapt
from proxy.formats.constraints.aliases import Aliases
from proxy.formats.constraints.restoration import StreamRestorer, restore_call, restore_response
from proxy.formats.neutral import Event, PartDelta, PartEnded, PartStarted, Request, Tool, ToolCall
from proxy.formats.registry import CODECS
from tests.proxy.formats.constraints.adaptations import HI, chat, claude, gemini, responses
from tests.proxy.formats.golden.builders import FORMATS, Body
from tests.proxy.formats.golden.cells import (
    CLIENT_REQUEST,
    comparable,
    converted_response,
    converted_stream,
    encode_body,
)
from tests.proxy.formats.golden.response_tool_calls import TOOL_CALL_RESPONSES
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of

OWN_NAME = "größter Name: " + "eines Werkzeugs " * 8
OWN_KEY = "city (in English)"
SCHEMA = {"type": "object", "properties": {OWN_KEY: {"type": "string"}}}
REQUEST = Request(model="m", messages=HI, tools=(Tool(name=OWN_NAME, schema=SCHEMA),))
PROVIDERS = {
    "openai_chat": chat("gpt-4o"),
    "openai_responses": responses("gpt-5"),
    "anthropic": claude(),
    "gemini": gemini(),
}
SCENARIOS = ["parallel tool calls", "single tool call", "tool call without arguments"]


def aliases_for(provider: str) -> Aliases:
    return adapt(REQUEST, PROVIDERS[provider]).aliases


def renamed(body: Body, tool: str, key: str) -> Body:
    text = json.dumps(body).replace("get_weather", tool).replace('"city"', f'"{key}"')
    named: Body = json.loads(text.replace('\\"city\\"', f'\\"{key}\\"'))
    return named


def restored_response(client: str, provider: str, body: Body, aliases: Aliases) -> Any:
    response = restore_response(CODECS[provider].parse_response(encode_body(body)), aliases)
    return json.loads(CODECS[client].render_response(response, CLIENT_REQUEST))


def restored_stream(client: str, provider: str, body: Body, aliases: Aliases) -> bytes:
    decoder, restorer = CODECS[provider].parse_stream(), StreamRestorer(aliases)
    encoder = CODECS[client].render_stream(replace(CLIENT_REQUEST, stream=True))
    events = [*decoder.feed(stream_of(provider, body)), *decoder.finish()]
    out: bytes = b"".join(encoder.encode(found) for event in events for found in restorer.restore(event))
    return out + encoder.finish()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("provider", FORMATS)
@pytest.mark.parametrize("client", FORMATS)
def test_a_client_gets_its_own_names_back(client: str, provider: str, scenario: str) -> None:
    aliases, body = aliases_for(provider), TOOL_CALL_RESPONSES[scenario][provider]
    assert body is not None and aliases.tools.keys() == {OWN_NAME}
    own = renamed(body, OWN_NAME, OWN_KEY)
    key = aliases.keys.get(OWN_NAME, {}).get(OWN_KEY, OWN_KEY)
    answered = renamed(body, aliases.tools[OWN_NAME], key)
    assert comparable(restored_response(client, provider, answered, aliases)) == comparable(
        converted_response(client, provider, own)
    )
    streamed, expected = (
        read_stream(client, stream)
        for stream in (
            restored_stream(client, provider, answered, aliases),
            converted_stream(client, provider, own),
        )
    )
    assert comparable(streamed) == comparable(expected)


def test_wrapped_arguments_are_unwrapped() -> None:
    tool = Tool(name="f", schema={"type": "array", "items": {"type": "string"}})
    aliases = adapt(Request(model="m", messages=HI, tools=(tool,)), claude()).aliases
    restorer, call = StreamRestorer(aliases), ToolCall(id="1", name="f")
    events: list[Event] = [
        PartStarted(choice=0, index=1, part=call),
        PartDelta(choice=0, index=1, text='{"value": ["a'),
        PartDelta(choice=0, index=1, text='"]}'),
        PartEnded(choice=0, index=1),
    ]
    assert [found for event in events for found in restorer.restore(event)] == [
        events[0],
        PartDelta(choice=0, index=1, text='["a"]'),
        events[3],
    ]


def test_arguments_of_other_tools_stream_as_they_arrive() -> None:
    restorer = StreamRestorer(Aliases(keys={"f": {"$a": "_a"}}))
    events: list[Event] = [
        PartStarted(choice=0, index=0, part=ToolCall(id="1", name="g")),
        PartDelta(choice=0, index=0, text='{"_a":'),
        PartDelta(choice=0, index=0, text="1}"),
        PartEnded(choice=0, index=0),
    ]
    assert [list(restorer.restore(event)) for event in events] == [[event] for event in events]


@pytest.mark.parametrize(
    ("aliases", "sent", "expected"),
    [
        (Aliases(keys={"f": {"$a": "_a"}}), '{"_a": "half', '{"$a": "half'),
        (Aliases(keys={"f": {"$a": "_a"}}), '{"_a" : {"_a":"_a', '{"$a" : {"$a":"_a'),
        (Aliases(keys={"f": {"$a": "_a"}}), '{"b": 1, "_a', '{"b": 1, "_a'),
        (Aliases(wrapped=frozenset({"f"})), '{"value": [1, 2', "[1, 2"),
        (Aliases(wrapped=frozenset({"f"})), '{"val', '{"val'),
    ],
)
def test_arguments_that_are_cut_get_the_names_of_the_client(
    aliases: Aliases, sent: str, expected: str
) -> None:
    restorer = StreamRestorer(aliases)
    started = PartStarted(choice=0, index=0, part=ToolCall(id="1", name="f"))
    events: list[Event] = [started, PartDelta(choice=0, index=0, text=sent), PartEnded(choice=0, index=0)]
    received = [found for event in events for found in restorer.restore(event)]
    assert received == [started, PartDelta(choice=0, index=0, text=expected), events[-1]]
    call = ToolCall(id="1", name="f", arguments=sent)
    assert restore_call(call, aliases).arguments == expected


def test_history_names_tools_and_arguments_as_the_provider_knows_them() -> None:
    call = ToolCall(id="1", name=OWN_NAME, arguments=json.dumps({OWN_KEY: {OWN_KEY: [1]}}))
    adapted = adapt(replace(REQUEST, messages=(replace(HI[0], role="assistant", parts=(call,)),)), claude())
    (sent,) = adapted.request.messages[0].parts
    key = adapted.aliases.keys[OWN_NAME][OWN_KEY]
    assert isinstance(sent, ToolCall) and sent.name == adapted.aliases.tools[OWN_NAME]
    assert json.loads(sent.arguments) == {key: {key: [1]}}
