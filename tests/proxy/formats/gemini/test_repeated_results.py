"""Results that a client sends twice reach the provider once, passed through and converted."""

import json
from typing import Any

import pytest

from proxy.formats import gemini
from proxy.formats.gemini import GenerateContentRequest
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import ToolResult
from proxy.formats.quirks import Quirks

Json = dict[str, Any]
MODEL = "gemini-2.5-flash"
USER: Json = {"role": "user", "parts": [{"text": "Hi"}]}


def call(call_id: str) -> Json:
    return {"functionCall": {"id": call_id, "name": "f", "args": {}}}


def result(call_id: str, output: str = "") -> Json:
    return {"functionResponse": {"id": call_id, "name": "f", "response": {"output": output or call_id}}}


def body_of(*turns: tuple[str, list[Json]]) -> bytes:
    contents = [USER, *({"role": role, "parts": parts} for role, parts in turns)]
    return json.dumps({"contents": contents}).encode()


def sent(body: bytes) -> list[list[Json]]:
    """Return the parts that the provider receives if the request passes through."""
    upstream = json.loads(GenerateContentRequest(body, MODEL).upstream_body(MODEL, None, Quirks()))
    return [content["parts"] for content in upstream["contents"]]


def results_in_neutral_form(body: bytes) -> list[str]:
    request = gemini.parse_request(parse_object(body), MODEL)
    return [
        part.call_id for message in request.messages for part in message.parts if isinstance(part, ToolResult)
    ]


CALLS = [call("a"), call("b")]
REPEATED = [
    [("model", CALLS), ("user", [result("a"), result("b"), result("a"), result("b")])],
    [("model", CALLS), ("user", [result("a"), result("a"), result("b"), result("b")])],
    [("model", CALLS), ("user", [result("a"), result("b")]), ("user", [result("a"), result("b")])],
]
KEPT = [
    [("model", CALLS), ("user", [result("a"), result("b")])],
    [("model", [call("a"), call("a")]), ("user", [result("a", "1"), result("a", "2")])],
    [("model", [call("a")]), ("user", [result("a")]), ("model", [call("a")]), ("user", [result("a")])],
    [("model", [call("")]), ("user", [result(""), result("")])],
    [("model", [call("a")]), ("user", [result("other"), result("other")])],
]


@pytest.mark.parametrize("turns", REPEATED)
def test_a_repeated_result_is_sent_once(turns: list[tuple[str, list[Json]]]) -> None:
    passed = [part for parts in sent(body_of(*turns)) for part in parts if "functionResponse" in part]
    assert passed == [result("a"), result("b")]
    assert all(sent(body_of(*turns)))
    assert results_in_neutral_form(body_of(*turns)) == ["a", "b"]


@pytest.mark.parametrize("turns", KEPT)
def test_other_results_pass_with_the_same_bytes(turns: list[tuple[str, list[Json]]]) -> None:
    body = body_of(*turns)
    assert GenerateContentRequest(body, MODEL).upstream_body(MODEL, None, Quirks()) == body


def test_streamed_calls_in_contents_of_their_own_are_one_turn() -> None:
    """Google's SDKs keep each chunk of a stream as a content."""
    body = body_of(
        ("model", [call("a")]), ("model", [call("b")]), ("user", [result("a"), result("b"), result("a")])
    )
    assert sent(body)[-1] == [result("a"), result("b")]
