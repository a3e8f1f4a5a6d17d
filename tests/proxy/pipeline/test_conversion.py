"""Converted requests: a body is decoded once, is not changed, and is rendered once."""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proxy.formats import json_body
from proxy.formats.codec import ClientRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Request, UnsupportedFeature
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.pipeline.conversion import ConvertedRequest
from tests.proxy.formats.golden.builders import FORMATS, Body
from tests.proxy.formats.golden.cells import REQUESTS, encode_body
from tests.proxy.formats.test_fuzz import CLIENT_REQUEST_TYPES
from tests.support.converted_requests import converted_request

MODELS = {"openai_chat": "gpt-4o", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
OLDER_CLAUDE = "claude-3-7-sonnet-latest"
"""A model whose thinking has a budget, which must be below the output limit."""
LIMITS = (5, 1500, 100_000)
decode = msgspec.json.decode
providers = pytest.mark.parametrize("provider", FORMATS)


def cases(provider: str) -> Iterator[tuple[str, str, Body]]:
    """Yield every recorded request, with its format and models of the provider."""
    for model in {MODELS.get(provider, "gpt-4o"), OLDER_CLAUDE if provider == "anthropic" else "m"}:
        for bodies in REQUESTS.values():
            yield from ((client, model, body) for client, body in bodies.items() if body is not None)


def client_request(client: str, body: Body) -> ClientRequest:
    return CLIENT_REQUEST_TYPES[client](encode_body(body))


def plan_for(request: ClientRequest, client: str, provider: str, model: str) -> ConvertedRequest:
    return converted_request(request, client, Destination("compatible", provider, model))


def rendered_with_limit(plan: ConvertedRequest, provider: str, limit: int) -> Any:
    """Return the body that a request with the lower limit gets."""
    given = plan.adapted.request.max_tokens
    limit = limit if given is None else min(given, limit)
    request: Request = replace(plan.adapted.request, model=plan.model, max_tokens=limit, wants_usage=True)
    return CODECS[provider].render_request(request, Quirks()).body


@providers
@pytest.mark.parametrize("limit", LIMITS)
def test_lowered_limit_gives_the_request_of_a_client_with_that_limit(provider: str, limit: int) -> None:
    compared = 0
    for client, model, body in cases(provider):
        try:
            plan = plan_for(client_request(client, body), client, provider, model)
            expected = rendered_with_limit(plan, provider, limit)
        except UnsupportedFeature:
            continue
        assert decode(plan.render_upstream(limit).body) == expected
        compared += 1
    assert compared > 50


@providers
def test_conversion_leaves_the_decoded_body_unchanged(provider: str) -> None:
    for client, model, body in cases(provider):
        request = client_request(client, body)
        before = copy.deepcopy(request.fields)
        try:
            plan = plan_for(request, client, provider, model)
            plan.render_upstream(5)
        except UnsupportedFeature:
            pass
        assert request.fields == before


@providers
def test_body_is_decoded_once_and_rendered_once(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(name: str, original: Any) -> Any:
        def counted(*args: Any) -> Any:
            calls.append(name)
            return original(*args)

        return counted

    codec: Any = CODECS[provider]
    monkeypatch.setattr(json_body, "decode_object", count("decode", json_body.decode_object))
    monkeypatch.setattr(codec, "render_request", count("render", codec.render_request))
    body = {"model": "m", "max_tokens": 900, "messages": [{"role": "user", "content": "Hi"}]}
    request = CLIENT_REQUEST_TYPES["anthropic"](encode_body(body))
    plan_for(request, "anthropic", provider, "m").render_upstream(7)
    assert calls == ["decode", "render"]


AUDIO_PART = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
GEMINI_COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 7}
AUDIO_DETAILS = {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]}


@pytest.mark.parametrize("content", [[AUDIO_PART], "What is audio?"])
@pytest.mark.parametrize("details", [{}, AUDIO_DETAILS])
def test_input_of_a_converted_request_counts_as_audio_if_not_reported(content: Any, details: Body) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    plan = plan_for(client_request("openai_chat", body), "openai_chat", "gemini", "gemini-2.5-flash")
    candidate = {"content": {"role": "model", "parts": [{"text": "x"}]}, "finishReason": "STOP"}
    response = encode_body({"candidates": [candidate], "usageMetadata": GEMINI_COUNTS | details})
    meter = plan.meter()
    meter.feed(b"data: " + response + b"\n\n")
    meter.finish()
    expected = {"input_audio": 3 if details else 5} if details or content == [AUDIO_PART] else {}
    for usage in (plan.parse_response(response).usage, meter.usage):
        assert usage is not None and usage.billable_extras == expected
