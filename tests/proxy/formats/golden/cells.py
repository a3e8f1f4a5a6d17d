"""The cells of the golden matrix: computation, reading and writing of each scenario's results.

`python -m tests.proxy.formats.golden.cells` writes the file of every scenario that has none. To update a
cell, delete its file, write it again, and read it before you commit it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from proxy.formats.codec import Codec
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import Message, Request, ServerTool, Text, Thinking, Tool, UnsupportedFeature
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.formats.seals import unseal
from tests.proxy.formats.golden.builders import (
    FORMATS,
    SCHEMA,
    Bodies,
    Body,
    anthropic_request,
    openai_responses_request,
)
from tests.proxy.formats.golden.request_client_tools import CLIENT_TOOLS
from tests.proxy.formats.golden.request_conversations import CONVERSATIONS
from tests.proxy.formats.golden.request_limits import LIMITS
from tests.proxy.formats.golden.request_media import MEDIA
from tests.proxy.formats.golden.request_reasoning import THINKING
from tests.proxy.formats.golden.request_server_tools import COUNTERPARTS, OPAQUE_PARTS, SERVER_TOOLS
from tests.proxy.formats.golden.request_tools import TOOL_CHOICES, TOOL_LOOPS
from tests.proxy.formats.golden.response_text import TEXT_RESPONSES
from tests.proxy.formats.golden.response_tool_calls import THINKING_RESPONSES, TOOL_CALL_RESPONSES
from tests.proxy.formats.golden.response_vendor_tools import CLAUDE_TOOLS, OPENAI_TOOLS, VENDOR_TOOL_RESPONSES
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.support.adapted_requests import render_adapted

DIRECTORY = Path(__file__).parent / "cells"
REQUESTS: dict[str, Bodies] = (
    CONVERSATIONS
    | MEDIA
    | TOOL_CHOICES
    | TOOL_LOOPS
    | THINKING
    | LIMITS
    | CLIENT_TOOLS
    | SERVER_TOOLS
    | OPAQUE_PARTS
    | COUNTERPARTS
)
RESPONSES: dict[str, Bodies] = (
    TEXT_RESPONSES | TOOL_CALL_RESPONSES | THINKING_RESPONSES | VENDOR_TOOL_RESPONSES
)
RUNS_TOOLS = Quirks(server_tools=frozenset({"web_search", "web_fetch", "code_execution"}))
"""The provider of the scenarios in COUNTERPARTS."""


def declared(format: str, body: Body) -> tuple[Tool | ServerTool, ...]:
    """Return the vendor tools that a client of a format declares."""
    tools: tuple[Tool | ServerTool, ...] = CODECS[format].parse_request(body, "m", False).tools
    return tools


CLIENT_REQUEST = Request(
    model="m",
    messages=(Message(role="user", parts=(Text(text="Hi"),)),),
    tools=(
        Tool(name="get_weather", schema=SCHEMA),
        Tool(name="patch", custom=True),
        *declared("openai_responses", openai_responses_request(tools=OPENAI_TOOLS)),
        *declared("anthropic", anthropic_request(tools=CLAUDE_TOOLS)),
    ),
)
GENERATED_ID = re.compile(
    r"(resp|msg|fc|ctc|rs|ig|call|sh|lsh|apc|cu|tsc)_(?:gateway)?(?:[0-9a-f]{32}|[0-9a-f]{24})|[0-9a-f]{32}"
)
TIME_FIELDS = ("created", "created_at", "completed_at", "createTime")
COMPARED_FIELDS = ("id", "object", "model", "status", "incomplete_details", "output", "usage")
"""The fields of a Responses response that come from the provider. The others repeat the request."""

Cell = dict[str, Any]


def request_cell(client: str, provider: str, body: Body, quirks: Quirks) -> Cell:
    """Return the upstream request for a client's request, or the reason why it is rejected."""
    parsed = CODECS[client].parse_request(parse_object(encode_body(body)), "m", False)
    try:
        rendered = render_adapted(parsed, Destination("compatible", provider, "m"), quirks)
    except UnsupportedFeature as rejected:
        return {"unsupported_param": rejected.param, "reason": str(rejected)}
    dropped = {"dropped": rendered.dropped} if rendered.dropped else {}
    return {"request": json.loads(json.dumps(rendered.body)), **dropped}


def quirks_of(scenario: str) -> Quirks:
    """Return the quirks of the providers in a scenario."""
    return RUNS_TOOLS if scenario in COUNTERPARTS else Quirks()


def encode_body(body: Body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def response_cell(client: str, provider: str, body: Body) -> Cell:
    """Return the client's response, and the response of the stream if that is different."""
    response, stream = (
        comparable(converted_response(client, provider, body)),
        comparable(read_stream(client, converted_stream(client, provider, body))),
    )
    return {"response": response} | ({"streamed_response": stream} if stream != response else {})


def converted_response(client: str, provider: str, body: Body) -> Body:
    response: Body = json.loads(
        CODECS[client].render_response(CODECS[provider].parse_response(encode_body(body)), CLIENT_REQUEST)
    )
    return response


def converted_stream(client: str, provider: str, body: Body) -> bytes:
    """Return the stream that a client gets for a provider's stream."""
    return convert_stream(CODECS[client], CODECS[provider], stream_of(provider, body))


def convert_stream(client: Codec, provider: Codec, stream: bytes) -> bytes:
    decoder, encoder = provider.parse_stream(), client.render_stream(replace(CLIENT_REQUEST, stream=True))
    events = [*decoder.feed(stream), *decoder.finish()]
    out: bytes = b"".join(encoder.encode(event) for event in events) + encoder.finish()
    return out


def comparable(response: Body) -> Body:
    kept = {
        name: value
        for name, value in response.items()
        if response.get("object") != "response" or name in COMPARED_FIELDS
    }
    found: Body = without_generated_values(kept)
    return found


def without_generated_values(value: Any) -> Any:
    """Return the value without generated ids and times, which differ in each run."""
    match value:
        case dict():
            return {
                name: without_generated_values(item)
                for name, item in value.items()
                if name not in TIME_FIELDS
            }
        case list():
            return [without_generated_values(item) for item in value]
        case str() if (sealed := unseal(value)) is not None:
            return readable_seal(sealed)
        case str():
            return GENERATED_ID.sub(lambda made: f"{made[1] or 'id'}_...", value)
        case _:
            return value


def readable_seal(sealed: Iterable[Thinking]) -> str:
    """Return the content of a seal in a form for cells."""
    shown = (
        {name: value for name, value in asdict(thinking).items() if value is not None} for thinking in sealed
    )
    return f"seal({json.dumps(list(shown), ensure_ascii=False)[1:-1]})"


# Files --------------------------------------------------------------------------------------------


def pairs(bodies: Bodies) -> Iterator[tuple[str, str, Body]]:
    """Yield the formats of sender and receiver, and the body."""
    for sender in FORMATS:
        body = bodies[sender]
        if body is not None:
            yield from ((sender, receiver, body) for receiver in FORMATS)


def path_of(kind: str, scenario: str) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", scenario.lower())
    return DIRECTORY / kind / f"{name}.json"


@cache
def read(kind: str, scenario: str) -> dict[tuple[str, str], Cell]:
    """Return the cells of a scenario by sender and receiver; empty if it has no file."""
    path = path_of(kind, scenario)
    rows = json.loads(path.read_text()) if path.exists() else {}
    return {
        (sender, receiver): row["cell"]
        for receiver, found in rows.items()
        for row in found
        for sender in row["from"]
    }


def write(kind: str, scenario: str, cells: dict[tuple[str, str], Cell]) -> None:
    """Write the file of a scenario. For each receiver, senders with the same result share a cell."""
    rows = {
        receiver: group_rows({sender: cell for (sender, to), cell in cells.items() if to == receiver})
        for receiver in FORMATS
    }
    lines = [
        f"{json.dumps(receiver)}: [\n" + ",\n".join(map(encode_row, found)) + "\n]"
        for receiver, found in rows.items()
    ]
    path_of(kind, scenario).parent.mkdir(parents=True, exist_ok=True)
    path_of(kind, scenario).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def group_rows(cells: dict[str, Cell]) -> list[Cell]:
    found: list[Cell] = []
    for sender, cell in cells.items():
        same = next((row for row in found if row["cell"] == cell), None)
        if same:
            same["from"].append(sender)
        else:
            found.append({"from": [sender], "cell": cell})
    return found


def encode_row(row: Cell) -> str:
    return json.dumps(row, ensure_ascii=False)


def main() -> None:
    """Write the missing files. Clients send requests, providers send responses."""
    for scenario, bodies in REQUESTS.items():
        write_if_missing(
            "requests",
            scenario,
            {
                (client, provider): request_cell(client, provider, body, quirks_of(scenario))
                for client, provider, body in pairs(bodies)
            },
        )
    for scenario, bodies in RESPONSES.items():
        write_if_missing(
            "responses",
            scenario,
            {
                (provider, client): response_cell(client, provider, body)
                for provider, client, body in pairs(bodies)
            },
        )


def write_if_missing(kind: str, scenario: str, cells: dict[tuple[str, str], Cell]) -> None:
    if not path_of(kind, scenario).exists():
        write(kind, scenario, cells)


if __name__ == "__main__":
    main()
