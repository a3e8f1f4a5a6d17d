"""The cells of the matrix: what came of each scenario, and how it is written down.

`python -m tests.formats.golden.cells` writes the file of every scenario that has none. A changed cell is deleted and written anew, and
read before it is kept.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec.structs import replace

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.codec import Quirks
from proxy.formats.neutral import Inexpressible, Message, Request, Text, Tool
from tests.formats.golden.asked_conversations import CONVERSATIONS
from tests.formats.golden.asked_media import MEDIA
from tests.formats.golden.asked_thinking import THINKING
from tests.formats.golden.asked_tools import CHOICES, LOOPS
from tests.formats.golden.heard import heard
from tests.formats.golden.said_calls import CALLS, THOUGHTS
from tests.formats.golden.said_words import WORDS
from tests.formats.golden.streams import stream_of
from tests.formats.golden.words import FORMATS, SCHEMA, Bodies, Body

CODECS: dict[str, ModuleType] = {codec.NAME: codec for codec in (openai_chat, openai_responses, anthropic, gemini)}
DIRECTORY = Path(__file__).parent / "cells"
REQUESTS: dict[str, Bodies] = CONVERSATIONS | MEDIA | CHOICES | LOOPS | THINKING
ANSWERS: dict[str, Bodies] = WORDS | CALLS | THOUGHTS
CLIENT = Request(
    model="m",
    messages=(Message(role="user", parts=(Text(text="Hi"),)),),
    tools=(Tool(name="get_weather", schema=SCHEMA), Tool(name="patch", custom=True)),
)
MADE = re.compile(r"(resp|msg|fc|ctc|rs|ig|call)_(?:[0-9a-f]{32}|[0-9a-f]{24})|[0-9a-f]{32}")
TIMES = ("created", "created_at", "completed_at", "createTime")
TOLD = ("id", "object", "model", "status", "incomplete_details", "output", "usage")
"""Of an answer of Responses, what the provider said: the rest repeats the request."""

Cell = dict[str, Any]


def request_cell(client: str, provider: str, asked: Body) -> Cell:
    """What a provider is asked where a client asks this, or why it is not."""
    parsed = CODECS[client].parse_request(encoded(asked), "m", False)
    try:
        rendered = CODECS[provider].render_request(parsed, Quirks())
    except Inexpressible as refusal:
        return {"refused": refusal.param, "because": str(refusal)}
    dropped = {"dropped": rendered.dropped} if rendered.dropped else {}
    return {"asked": json.loads(json.dumps(rendered.body)), **dropped}


def encoded(body: Body) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def answer_cell(client: str, provider: str, said: Body) -> Cell:
    """What a client hears where a provider says this, and what a stream comes to where that is something else."""
    whole, stream = told(whole_answer(client, provider, said)), told(heard(client, streamed(client, provider, said)))
    return {"heard": whole} | ({"streamed": stream} if stream != whole else {})


def whole_answer(client: str, provider: str, said: Body) -> Body:
    answer: Body = json.loads(CODECS[client].render_response(CODECS[provider].parse_response(encoded(said)), CLIENT))
    return answer


def streamed(client: str, provider: str, said: Body) -> bytes:
    """The stream that a client gets where a provider streams this."""
    return passed_on(CODECS[client], CODECS[provider], stream_of(provider, said))


def passed_on(client: ModuleType, provider: ModuleType, stream: bytes) -> bytes:
    decoder, encoder = provider.StreamDecoder(), client.StreamEncoder(replace(CLIENT, stream=True))
    events = [*decoder.feed(stream), *decoder.finish()]
    out: bytes = b"".join(encoder.encode(event) for event in events) + encoder.finish()
    return out


def told(answer: Body) -> Body:
    kept = {name: value for name, value in answer.items() if answer.get("object") != "response" or name in TOLD}
    found: Body = lasting(kept)
    return found


def lasting(value: Any) -> Any:
    """Without what is another each time: ids that we make, and times."""
    match value:
        case dict():
            return {name: lasting(item) for name, item in value.items() if name not in TIMES}
        case list():
            return [lasting(item) for item in value]
        case str():
            return MADE.sub(lambda made: f"{made[1] or 'id'}_...", value)
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
    return {(speaker, listener): row["cell"] for listener, found in rows.items() for row in found for speaker in row["from"]}


def write(kind: str, scenario: str, cells: dict[tuple[str, str], Cell]) -> None:
    """For each listener, what it gets and from whom; who all cause the same stand together."""
    rows = {listener: rows_of({speaker: cell for (speaker, to), cell in cells.items() if to == listener}) for listener in FORMATS}
    lines = [f"{json.dumps(listener)}: [\n" + ",\n".join(map(written, found)) + "\n]" for listener, found in rows.items()]
    path_of(kind, scenario).parent.mkdir(parents=True, exist_ok=True)
    path_of(kind, scenario).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def rows_of(cells: dict[str, Cell]) -> list[Cell]:
    found: list[Cell] = []
    for speaker, cell in cells.items():
        same = next((row for row in found if row["cell"] == cell), None)
        if same:
            same["from"].append(speaker)
        else:
            found.append({"from": [speaker], "cell": cell})
    return found


def written(row: Cell) -> str:
    return json.dumps(row, ensure_ascii=False)


def main() -> None:
    """Clients speak in requests, providers in answers."""
    for scenario, bodies in REQUESTS.items():
        keep("requests", scenario, {(client, provider): request_cell(client, provider, body) for client, provider, body in pairs(bodies)})
    for scenario, bodies in ANSWERS.items():
        keep("answers", scenario, {(provider, client): answer_cell(client, provider, body) for provider, client, body in pairs(bodies)})


def keep(kind: str, scenario: str, cells: dict[tuple[str, str], Cell]) -> None:
    if not path_of(kind, scenario).exists():
        write(kind, scenario, cells)


if __name__ == "__main__":
    main()
