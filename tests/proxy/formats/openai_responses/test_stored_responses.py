"""The state of stored responses, and the usage of compactions and token counts."""

import json
from typing import Any

import pytest

from proxy.formats.neutral import UnsupportedFeature, Usage
from proxy.formats.openai_responses.background import read_state, response_path
from proxy.formats.openai_responses.compaction import CompactRequest
from proxy.formats.openai_responses.count_tokens import CountTokensRequest
from proxy.formats.openai_responses.passthrough import MAX_COMPACTION_TOKENS
from proxy.formats.quirks import Quirks

USAGE = {"input_tokens": 10, "output_tokens": 4}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "input": "Hi", **fields}).encode()


@pytest.mark.parametrize(
    ("response", "is_pending"),
    [
        ({"id": "r", "status": "queued"}, True),
        ({"id": "r", "status": "in_progress", "output": [], "usage": None}, True),
        ({"id": "r", "status": "completed", "output": [MESSAGE]}, False),
        ({"id": "r", "status": "incomplete"}, False),
        ({"id": "r", "status": "something_new"}, False),
        ({"id": "r"}, False),
    ],
)
def test_a_response_is_pending_by_its_status(response: dict[str, Any], is_pending: bool) -> None:
    state = read_state(json.dumps(response).encode())
    assert state is not None and state.is_pending == is_pending


def test_its_usage_and_error_are_read() -> None:
    failed = {"id": "r", "status": "failed", "error": {"code": "server_error"}, "usage": USAGE}
    state = read_state(json.dumps(failed).encode())
    assert state is not None
    assert (state.error_code, state.usage()) == ("server_error", Usage(input=10, output=4))
    shown = read_state(json.dumps({"id": "r", "status": "completed", "output": [MESSAGE]}).encode())
    assert shown is not None and (shown.usage(), shown.output_tokens) == (None, 1)


@pytest.mark.parametrize(
    "unreadable",
    [b"", b"[]", b"<html>", b'{"status": "queued"}', b'{"id": 3}', b'{"id": "%s"}' % (b"x" * 501)],
)
def test_a_body_without_an_id_has_no_state(unreadable: bytes) -> None:
    assert read_state(unreadable) is None


def test_ids_stay_within_their_path() -> None:
    assert response_path("resp_1", "cancel") == "/responses/resp_1/cancel"
    assert response_path("../files?x=1#y") == "/responses/..%2Ffiles%3Fx%3D1%23y"


def test_a_compaction_is_measured_by_its_usage_alone() -> None:
    request = CompactRequest(body(tools=[{"type": "web_search"}], stream=True, max_output_tokens=5))
    assert (request.facts.stream, request.facts.max_output_tokens) == (False, None)
    assert (request.facts.fixed_max_output, request.facts.max_billable_extras) == (MAX_COMPACTION_TOKENS, {})
    response = {"output": [SEARCH, MESSAGE], "usage": USAGE, "service_tier": "priority"}
    usage, counted = request.measure(json.dumps(response).encode())
    assert usage is not None and (usage.output, usage.service_tier, counted) == (4, "priority", 0)
    assert usage.billable_extras == {}, "searches of the history are not made again"
    assert request.measure(json.dumps({"output": [MESSAGE]}).encode()) == (None, 0)
    assert request.measure(b"<html>") == (None, 0)


def test_requests_are_passed_on_without_an_output_limit() -> None:
    for kind in (CompactRequest, CountTokensRequest):
        assert json.loads(kind(body()).upstream_body("m", 7, Quirks())) == {"model": "m", "input": "Hi"}


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "prompt"])
def test_stored_input_is_not_estimated(field: str) -> None:
    with pytest.raises(UnsupportedFeature) as refusal:
        CountTokensRequest(body(**{field: "x"})).estimate()
    assert refusal.value.param == field
