"""Thoughts and signatures from clients of Gemini, which store each chunk of a stream as a content."""

import json
from typing import Any

import pytest

from proxy.formats import gemini
from proxy.formats.neutral import (
    Choice,
    Event,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Response,
    Started,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.formats.seals import seal, unseal
from tests.proxy.formats.gemini.samples import neutral_request, parsed
from tests.proxy.formats.gemini.test_streams import chunks_in, encoded

CLAUDES = Thinking(text="Let me see.", signature="EqQB", origin="anthropic")
REDACTED = Thinking(redacted="EmwK", origin="anthropic")
CALL = {"functionCall": {"name": "f", "args": {}}}
RESULT = {"functionResponse": {"name": "f", "response": {"result": "Sun"}}}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def history(*contents: dict[str, Any]) -> list[tuple[str, tuple[Part, ...]]]:
    return [(message.role, message.parts) for message in parsed(contents=list(contents)).messages]


def thought(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, "thought": True, **fields}


# Requests -----------------------------------------------------------------------------------------


def test_neighbouring_contents_are_one_turn() -> None:
    (role, parts), (_, results) = history(
        model(thought("Let me ")),
        model(thought("see.")),
        model(thought("", thoughtSignature="CpYB")),
        model({"text": "I "}),
        model({"text": "will "}, {"text": " call."}),
        model(CALL),
        model({**CALL, "thoughtSignature": "CpYC"}),
        {"role": "user", "parts": [RESULT]},
        {"role": "function", "parts": [RESULT]},
    )
    first, second = (part for part in parts if isinstance(part, ToolCall))
    assert role == "assistant" and [part for part in parts if not isinstance(part, ToolCall)] == [
        Thinking(text="Let me see.", signature="CpYB", origin="gemini"),
        Text(text="I will  call."),
    ]
    assert (first.signature, second.signature) == (None, "CpYC")
    assert [part.call_id for part in results if isinstance(part, ToolResult)] == [first.id, second.id]


def test_thoughts_in_pieces_get_the_thinking_of_their_seal() -> None:
    sealed = seal(CLAUDES)
    ((_, parts),) = history(
        model(thought("Let me ")), model(thought("see.")), model(thought("", thoughtSignature=sealed))
    )
    assert parts == (CLAUDES,)


def test_a_call_brings_thoughts_that_the_client_has_not_kept() -> None:
    sealed = seal(CLAUDES, REDACTED)
    ((_, parts),) = history(model({"text": "I call."}, {**CALL, "thoughtSignature": sealed}))
    assert parts[:3] == (CLAUDES, REDACTED, Text(text="I call."))
    assert isinstance(parts[3], ToolCall) and parts[3].signature is None


def test_thoughts_that_the_client_has_kept_are_not_repeated() -> None:
    call = {**CALL, "thoughtSignature": seal(CLAUDES)}
    ((_, parts),) = history(
        model(thought("Let me see.", thoughtSignature=seal(CLAUDES)), {"text": "I call."}, call)
    )
    assert parts[:2] == (CLAUDES, Text(text="I call."))
    ((_, parts),) = history(model(thought("Let me see."), {"text": "I call."}, call))
    assert parts[:2] == (CLAUDES, Text(text="I call."))


def test_thoughts_of_each_call_stand_before_it() -> None:
    later = Thinking(text="And now?", signature="EqQC", origin="anthropic")
    ((_, parts),) = history(
        model({**CALL, "thoughtSignature": seal(CLAUDES)}, {**CALL, "thoughtSignature": seal(later)})
    )
    assert [part if isinstance(part, Thinking) else "call" for part in parts] == [
        CLAUDES,
        "call",
        later,
        "call",
    ]


@pytest.mark.parametrize(
    "signature", ["skip_thought_signature_validator", "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="]
)
def test_a_synthetic_signature_is_none(signature: str) -> None:
    ((_, parts),) = history(model({**CALL, "thoughtSignature": signature}))
    assert isinstance(parts[0], ToolCall) and len(parts) == 1 and parts[0].signature is None


# Responses ----------------------------------------------------------------------------------------


def complete(*parts: Part) -> list[dict[str, Any]]:
    response = Response(id="r", model="m", choices=(Choice(parts=parts),))
    body = json.loads(gemini.render_response(response, neutral_request()))
    rendered: list[dict[str, Any]] = body["candidates"][0]["content"]["parts"]
    return rendered


def streamed(*parts: Part) -> list[dict[str, Any]]:
    events: list[Event] = [Started(id="r", model="m")]
    for index, part in enumerate(parts):
        match part:
            case Thinking(redacted=None):
                events.append(PartStarted(choice=0, index=index, part=Thinking(origin=part.origin)))
                events.append(PartDelta(choice=0, index=index, text=part.text))
                if part.signature:
                    events.append(PartSigned(choice=0, index=index, signature=part.signature))
            case _:
                events.append(PartStarted(choice=0, index=index, part=part))
        events.append(PartEnded(choice=0, index=index))
    chunks = chunks_in(encoded([*events, Finished(choice=0, finish_reason="stop")]))
    contents = [chunk["candidates"][0]["content"]["parts"] for chunk in chunks]
    return [part for content in contents for part in content if part != {"text": ""}]


both_ways = pytest.mark.parametrize("rendered", [complete, streamed])


@both_ways
def test_a_call_bears_the_thinking_before_it(rendered: Any) -> None:
    calls = [ToolCall(id=id, name="f", arguments="{}") for id in "ab"]
    parts = rendered(CLAUDES, REDACTED, Text(text="I call."), *calls)
    first, second = (part for part in parts if "functionCall" in part)
    assert unseal(first["thoughtSignature"]) == (CLAUDES, REDACTED) and "thoughtSignature" not in second
    ((_, kept),) = history(model(*(part for part in parts if not part.get("thought"))))
    assert kept[:3] == (CLAUDES, REDACTED, Text(text="I call."))
    ((_, kept),) = history(*(model(part) for part in parts))
    assert kept[:3] == (CLAUDES, REDACTED, Text(text="I call."))


@both_ways
def test_only_the_first_call_of_another_vendor_has_an_empty_seal(rendered: Any) -> None:
    calls = [ToolCall(id=id, name="f", arguments="{}") for id in "ab"]
    first, second = rendered(*calls)
    assert first["thoughtSignature"] == seal() and "thoughtSignature" not in second


@both_ways
def test_googles_own_call_keeps_its_signature(rendered: Any) -> None:
    call = ToolCall(id="a", name="f", arguments="{}", signature="CpYB", origin="gemini")
    (part,) = rendered(call)
    assert part["thoughtSignature"] == "CpYB"
