"""The cells of the matrix: what came of each scenario, and how it is written down.

`python -m tests.proxy.formats.golden.cells` writes the file of every scenario that has none. A changed cell is deleted and written anew, and
read before it is kept.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from proxy.formats.codec import Codec
from proxy.formats.neutral import Message, Request, Text, Tool, UnsupportedFeature
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS, SCHEMA, Bodies, Body
from tests.proxy.formats.golden.request_conversations import CONVERSATIONS
from tests.proxy.formats.golden.request_media import MEDIA
from tests.proxy.formats.golden.request_reasoning import THINKING
from tests.proxy.formats.golden.request_tools import TOOL_CHOICES, TOOL_LOOPS
from tests.proxy.formats.golden.response_text import TEXT_RESPONSES
from tests.proxy.formats.golden.response_tool_calls import THINKING_RESPONSES, TOOL_CALL_RESPONSES
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of

DIRECTORY = Path(__file__).parent / "cells"
REQUESTS: dict[str, Bodies] = CONVERSATIONS | MEDIA | TOOL_CHOICES | TOOL_LOOPS | THINKING
RESPONSES: dict[str, Bodies] = TEXT_RESPONSES | TOOL_CALL_RESPONSES | THINKING_RESPONSES
CLIENT_REQUEST = Request(
    model="m",
    messages=(Message(role="user", parts=(Text(text="Hi"),)),),
    tools=(Tool(name="get_weather", schema=SCHEMA), Tool(name="patch", custom=True)),
)
GENERATED_ID = re.compile(r"(resp|msg|fc|ctc|rs|ig|call)_(?:[0-9a-f]{32}|[0-9a-f]{24})|[0-9a-f]{32}")
TIME_FIELDS = ("created", "created_at", "completed_at", "createTime")
COMPARED_FIELDS = ("id", "object", "model", "status", "incomplete_details", "output", "usage")
"""Of an answer of Responses, what the provider said: the rest repeats the request."""

Cell = dict[str, Any]


def request_cell(client: str, provider: str, body: Body) -> Cell:
    """What a provider is asked where a client asks this, or why it is not."""
    parsed = CODECS[client].parse_request(encode_body(body), "m", False)
    try:
        rendered = CODECS[provider].render_request(parsed, Quirks())
    except UnsupportedFeature as refusal:
        return {"unsupported_param": refusal.param, "reason": str(refusal)}
    dropped = {"dropped": rendered.dropped} if rendered.dropped else {}
    return {"request": json.loads(json.dumps(rendered.body)), **dropped}


def encode_body(body: Body) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def response_cell(client: str, provider: str, body: Body) -> Cell:
    """What a client hears where a provider says this, and what a stream comes to where that is something else."""
    whole, stream = (
        comparable(converted_response(client, provider, body)),
        comparable(read_stream(client, converted_stream(client, provider, body))),
    )
    return {"response": whole} | ({"streamed_response": stream} if stream != whole else {})


def converted_response(client: str, provider: str, body: Body) -> Body:
    answer: Body = json.loads(
        CODECS[client].render_response(CODECS[provider].parse_response(encode_body(body)), CLIENT_REQUEST)
    )
    return answer


def converted_stream(client: str, provider: str, body: Body) -> bytes:
    """The stream that a client gets where a provider streams this."""
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
    """Without what is another each time: ids that we make, and times."""
    match value:
        case dict():
            return {
                name: without_generated_values(item)
                for name, item in value.items()
                if name not in TIME_FIELDS
            }
        case list():
            return [without_generated_values(item) for item in value]
        case str():
            return GENERATED_ID.sub(lambda made: f"{made[1] or 'id'}_...", value)
        case _:
            return value


# Files ----------------------------------------------------------------------------------------------------------------------


def pairs(bodies: Bodies) -> Iterator[tuple[str, str, Body]]:
    """Who speaks, who listens, and what is said."""
    for speaker in FORMATS:
        body = bodies[speaker]
        if body is not None:
            yield from ((speaker, listener, body) for listener in FORMATS)


def path_of(kind: str, scenario: str) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", scenario.lower())
    return DIRECTORY / kind / f"{name}.json"


@cache
def read(kind: str, scenario: str) -> dict[tuple[str, str], Cell]:
    """The cells of a scenario, by speaker and listener: empty where it has no file."""
    path = path_of(kind, scenario)
    rows = json.loads(path.read_text()) if path.exists() else {}
    return {
        (speaker, listener): row["cell"]
        for listener, found in rows.items()
        for row in found
        for speaker in row["from"]
    }


def write(kind: str, scenario: str, cells: dict[tuple[str, str], Cell]) -> None:
    """For each listener, what it gets and from whom; who all cause the same stand together."""
    rows = {
        listener: group_rows({speaker: cell for (speaker, to), cell in cells.items() if to == listener})
        for listener in FORMATS
    }
    lines = [
        f"{json.dumps(listener)}: [\n" + ",\n".join(map(encode_row, found)) + "\n]"
        for listener, found in rows.items()
    ]
    path_of(kind, scenario).parent.mkdir(parents=True, exist_ok=True)
    path_of(kind, scenario).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def group_rows(cells: dict[str, Cell]) -> list[Cell]:
    found: list[Cell] = []
    for speaker, cell in cells.items():
        same = next((row for row in found if row["cell"] == cell), None)
        if same:
            same["from"].append(speaker)
        else:
            found.append({"from": [speaker], "cell": cell})
    return found


def encode_row(row: Cell) -> str:
    return json.dumps(row, ensure_ascii=False)


def main() -> None:
    """Clients speak in requests, providers in answers."""
    for scenario, bodies in REQUESTS.items():
        write_if_missing(
            "requests",
            scenario,
            {
                (client, provider): request_cell(client, provider, body)
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
