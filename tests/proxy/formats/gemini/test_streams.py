"""Streams and embeddings of Gemini: decoded, encoded and passed through."""

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import gemini
from proxy.formats.gemini.count_tokens import CountTokensRequest
from proxy.formats.gemini.embeddings import (
    BatchEmbedContentsRequest,
    EmbedContentRequest,
    parse_embed_response,
    render_embed_request,
)
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    Finished,
    InvalidRequest,
    InvalidUpstreamResponse,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageReported,
)
from proxy.formats.quirks import Quirks
from tests.proxy.formats.gemini.samples import JSON, MODEL, PART, neutral_request, response_body


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def decoded(stream: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    decoder, events, start = gemini.parse_stream(), [], 0
    for cut in (*sorted(cuts), len(stream)):
        events += decoder.feed(stream[start:cut])
        start = max(start, cut)
    return events + decoder.finish()


def encoded(events: list[Event], as_array: bool = False) -> bytes:
    encoder = gemini.render_stream(neutral_request(), as_array=as_array)
    return b"".join(map(encoder.encode, events)) + encoder.finish()


def chunks_in(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix(b"data: ")) for event in stream.split(b"\r\n\r\n") if event]


# Streams ------------------------------------------------------------------------------------------

STREAM = sse(
    response_body({"text": "Let me ", "thought": True}, finishReason=None),
    response_body({"text": "see", "thought": True}, finishReason=None),
    response_body({"text": "Grüß"}, finishReason=None)
    | {"usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 2}},
    response_body(
        {"text": " Gott"},
        {"functionCall": {"name": "f", "args": {"x": "ü"}, "id": "1"}, "thoughtSignature": "c2ln"},
        finishReason=None,
    ),
    response_body({"text": ""})
    | {
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3,
            "totalTokenCount": 17,
        }
    },
)
EVENTS: list[Event] = [
    Started(id="r1", model=MODEL),
    PartStarted(choice=0, index=0, part=Thinking(origin="gemini")),
    PartDelta(choice=0, index=0, text="Let me "),
    PartDelta(choice=0, index=0, text="see"),
    PartEnded(choice=0, index=0),
    PartStarted(choice=0, index=1, part=Text()),
    PartDelta(choice=0, index=1, text="Grüß"),
    UsageReported(usage=Usage(input=7, cache_read=2, output=3, estimated=True)),
    PartDelta(choice=0, index=1, text=" Gott"),
    PartEnded(choice=0, index=1),
    PartStarted(choice=0, index=2, part=ToolCall(id="1", name="f", origin="gemini")),
    PartSigned(choice=0, index=2, signature="c2ln"),
    PartDelta(choice=0, index=2, text='{"x":"ü"}'),
    PartEnded(choice=0, index=2),
    UsageReported(usage=Usage(input=7, cache_read=2, output=5, estimated=True)),
    UsageReported(usage=Usage(input=7, cache_read=2, output=8, reasoning=3)),
    Finished(choice=0, finish_reason="tool_calls"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_chunk_boundaries_do_not_change_the_events(cuts: list[int]) -> None:
    assert decoded(STREAM, cuts) == EVENTS


def test_line_endings_comments_and_junk_are_ignored() -> None:
    noisy = b": hello\n\n" + STREAM.replace(b"\r\n", b"\n").replace(
        b"\n\ndata", b"\n\n: ping\n\ndata: {junk\n\ndata", 2
    )
    assert decoded(noisy) == EVENTS


def test_finish_reason_in_every_chunk_does_not_end_the_stream() -> None:
    events = decoded(
        sse(
            response_body({"text": "a"}),
            response_body({"text": "b"}),
            response_body({"text": "c"}, finishReason="MAX_TOKENS"),
        )
    )
    assert [event.text for event in events if isinstance(event, PartDelta)] == ["a", "b", "c"]
    assert events[-1] == Finished(choice=0, finish_reason="length")


def test_partial_arguments_are_merged() -> None:
    pieces: list[dict[str, Any]] = [
        {"name": "f", "willContinue": True},
        {
            "partialArgs": [{"jsonPath": "$.a.b[1]", "stringValue": "x", "willContinue": True}],
            "willContinue": True,
        },
        {
            "partialArgs": [
                {"jsonPath": "$.a.b[1]", "stringValue": "y"},
                {"jsonPath": "$['n']", "numberValue": 2},
            ],
            "willContinue": True,
        },
        {},
    ]
    events = decoded(
        sse(
            *(response_body({"functionCall": piece}) for piece in pieces),
            response_body({"functionCall": {"name": "g"}}),
        )
    )
    assert [json.loads(event.text) for event in events if isinstance(event, PartDelta)] == [
        {"a": {"b": [None, "xy"]}, "n": 2}
    ]
    assert [
        event.part.name
        for event in events
        if isinstance(event, PartStarted) and isinstance(event.part, ToolCall)
    ] == ["f", "g"]


@pytest.mark.parametrize(
    ("stream", "kind", "status"),
    [
        (sse(response_body({"text": "Hel"}, finishReason=None)), "network", 502),
        (b"", "network", 502),
        (b"<html>\n\n<body>Bad gateway", "server_error", 502),
        (
            sse({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}),
            "server_error",
            503,
        ),
        (b'[{"error": {"code": 429, "message": "Slow down"}}]', "rate_limit", 429),
    ],
)
def test_failed_streams_report_the_error(stream: bytes, kind: str, status: int) -> None:
    last = decoded(stream)[-1]
    assert isinstance(last, Failed) and (last.error.kind, last.error.status) == (kind, status)


def test_blocked_prompt_finishes_the_stream() -> None:
    events = decoded(
        sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
    )
    assert events[1:] == [
        UsageReported(usage=Usage(input=3)),
        Finished(choice=0, finish_reason="content_filter"),
    ]


def test_calls_are_sent_complete_and_the_last_chunk_finishes() -> None:
    chunks = chunks_in(encoded(EVENTS))
    calls = [
        part
        for chunk in chunks
        for part in chunk["candidates"][0]["content"]["parts"]
        if "functionCall" in part
    ]
    assert calls == [
        {"functionCall": {"id": "1", "name": "f", "args": {"x": "ü"}}, "thoughtSignature": "c2ln"}
    ]
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None] * (len(chunks) - 1) + [
        "STOP"
    ]
    assert chunks[-1]["usageMetadata"]["totalTokenCount"] == 17
    assert len({chunk["responseId"] for chunk in chunks}) == 1


def test_encoded_events_decode_to_the_same_events() -> None:
    events = [event for event in decoded(encoded(EVENTS)) if not isinstance(event, Started | UsageReported)]
    assert events == [event for event in EVENTS if not isinstance(event, Started | UsageReported)]


def test_array_stream_is_valid_json() -> None:
    assert json.loads(encoded(EVENTS, as_array=True))[-1]["candidates"][0]["finishReason"] == "STOP"
    api_error = ApiError(kind="timeout", code="timeout", message="Slow", status=504)
    assert (
        json.loads(encoded([*EVENTS[:6], Failed(error=api_error)], as_array=True))[-1]["error"]["status"]
        == "DEADLINE_EXCEEDED"
    )


# Pass-through -------------------------------------------------------------------------------------


def test_pass_through_changes_only_the_limit() -> None:
    body = (
        b'{ "contents":[{"parts":[{"text":"Hi"}]}], '
        b'"generation_config": {"max_output_tokens": 9, "new": {"x": 1.50}}, "odd":1e2 }'
    )
    client_request = gemini.GenerateContentRequest(body, "a/b", stream=True)
    assert client_request.upstream_body("other", None, Quirks()) == body
    limited = client_request.upstream_body("other", 5, Quirks())
    assert (
        json.loads(limited)["generation_config"] == {"new": {"x": 1.5}, "maxOutputTokens": 5}
        and b"1.50" in limited
    )
    assert client_request.facts.max_output_tokens == 9
    assert client_request.path("a/b") == "/v1beta/models/a%2Fb:streamGenerateContent?alt=sse"
    assert gemini.request_path("m", False) == "/v1beta/models/m:generateContent"


@pytest.mark.parametrize(
    "body",
    [
        b'{"contents": []}',
        b'{"contents": [{}], "generationConfig": {"maxOutputTokens": 0}}',
        b"{}",
        b'{"contents": "Hi"}',
    ],
)
def test_invalid_request_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        gemini.GenerateContentRequest(body, MODEL)


def test_text_counts_by_bytes_and_images_by_formula() -> None:
    image = {"inline_data": {"mime_type": "image/png", "data": "A" * 90_000}}
    calls = [
        gemini.GenerateContentRequest(json.dumps({"contents": [{"parts": parts}]}).encode(), MODEL)
        for parts in ([{"text": "ü"}], [image])
    ]
    assert [client_request.facts.max_input_tokens for client_request in calls] == [2 + 4 + 3, 12_000 + 4 + 3]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_meter_forwards_every_byte_except_comments(cuts: list[int]) -> None:
    stream = STREAM.replace(b"data", b": ping\n\ndata", 1)
    for as_array in (False, True):
        meter = gemini.GenerateContentRequest(b'{"contents":[{}]}', MODEL, True, as_array=as_array).meter()
        edges = [0, *sorted(cuts), len(stream)]
        forwarded = b"".join(meter.feed(stream[start:end]) for start, end in pairwise(edges)) + meter.finish()
        assert meter.usage == Usage(input=7, cache_read=2, output=8, reasoning=3)
        assert json.loads(forwarded) == chunks_in(STREAM) if as_array else forwarded == STREAM


def test_meter_counts_the_output_until_usage_is_final() -> None:
    meter = gemini.GenerateContentRequest(b'{"contents":[{}]}', MODEL, True).meter()
    meter.feed(
        sse(
            response_body({"text": "x" * 400}, finishReason=None) | {"usageMetadata": {"promptTokenCount": 9}}
        )
    )
    assert meter.usage == Usage(input=9, output=100, estimated=True)


def test_unterminated_last_event_gets_a_blank_line() -> None:
    meter = gemini.GenerateContentRequest(b'{"contents":[{}]}', MODEL, True).meter()
    assert chunks_in(meter.feed(STREAM[:-4]) + meter.finish()) == chunks_in(STREAM)


# Embeddings and counts ----------------------------------------------------------------------------


def test_embedding_requests_name_the_providers_model() -> None:
    item = {"model": "models/alias", "content": {"parts": [{"text": "Hi"}]}, "taskType": "RETRIEVAL_QUERY"}
    one, batch = (
        EmbedContentRequest(json.dumps(item).encode(), "alias"),
        BatchEmbedContentsRequest(json.dumps({"requests": [item]}).encode(), "alias"),
    )
    assert json.loads(one.upstream_body("real", None, Quirks())) == item | {"model": "models/real"}
    assert json.loads(batch.upstream_body("real", None, Quirks())) == {
        "requests": [item | {"model": "models/real"}]
    }
    assert batch.path("real") == "/v1beta/models/real:batchEmbedContents"
    assert one.facts.max_output_tokens == 0 and one.facts.max_input_tokens == 2


def test_embeddings_for_other_clients() -> None:
    path, body = render_embed_request(["a", "b"], "e", 8)
    assert path == "/v1beta/models/e:batchEmbedContents"
    assert body["requests"][1] == {
        "model": "models/e",
        "content": {"parts": [{"text": "b"}]},
        "outputDimensionality": 8,
    }
    assert parse_embed_response(b'{"embeddings": [{"values": [1, 2.5]}]}') == ([[1.0, 2.5]], None)
    with pytest.raises(InvalidUpstreamResponse):
        parse_embed_response(b'{"embeddings": []}')


def test_count_tokens_renames_the_model_and_can_estimate() -> None:
    request = {"model": "models/alias", "contents": [{"parts": [{"text": "x" * 40}]}]}
    client_request = CountTokensRequest(json.dumps({"generateContentRequest": request}).encode(), "alias")
    assert (
        json.loads(client_request.upstream_body("real", None, Quirks()))["generateContentRequest"]["model"]
        == "models/real"
    )
    assert json.loads(client_request.estimate()) == {"totalTokens": 10}


# Arbitrary input ----------------------------------------------------------------------------------


@given(st.lists(PART | JSON, max_size=3), JSON, JSON)
def test_any_response_is_parsed_or_invalid(parts: Any, reason: Any, usage: Any) -> None:
    body = {"candidates": [{"content": {"parts": parts}, "finishReason": reason}], "usageMetadata": usage}
    events = decoded(sse(body))
    assert isinstance(events[-1], Finished | Failed)
    encoded(events)
    with suppress(InvalidUpstreamResponse):
        json.loads(
            gemini.render_response(gemini.parse_response(json.dumps(body).encode()), neutral_request())
        )


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_failure(body: bytes) -> None:
    assert gemini.parse_error(400, body).status in (400, 401)
    assert isinstance(decoded(body)[-1], Failed)
