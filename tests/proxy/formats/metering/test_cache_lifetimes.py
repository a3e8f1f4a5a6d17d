"""Long lifetimes of prompt caches, in requests and in reported usage."""

import json
from typing import Any

import pytest

from proxy.formats.codec import ClientRequest
from proxy.formats.neutral import Usage
from proxy.formats.openai_chat.usage import render_usage as render_chat_usage
from proxy.formats.openai_responses.usage import render_usage as render_responses_usage
from tests.proxy.formats.metering.test_reported_usage import (
    chat_request,
    measured_usage,
    messages_request,
    responses_request,
)

Json = dict[str, Any]
DETAILS = {
    "cached_tokens": 100,
    "cache_write_tokens": 700,
    "cache_write_tokens_details": {"ttl_30m_tokens": 200, "ttl_12h_tokens": 500},
}
REPORTED = Usage(input=200, cache_read=100, cache_write_5m=200, cache_write_12h=500, output=10)
CHAT_USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": DETAILS}
RESPONSES_USAGE = {"input_tokens": 1000, "output_tokens": 10, "input_tokens_details": DETAILS}


def test_writes_for_12_hours_have_a_bucket_of_their_own() -> None:
    assert measured_usage(chat_request(), {"choices": [], "usage": CHAT_USAGE}) == REPORTED
    assert measured_usage(responses_request(), {"output": [], "usage": RESPONSES_USAGE}) == REPORTED


def test_writes_that_only_the_lifetimes_report_count() -> None:
    details = {"cache_write_tokens_details": {"ttl_30m_tokens": 1, "ttl_12h_tokens": 2}}
    usage = CHAT_USAGE | {"prompt_tokens_details": details}
    assert measured_usage(chat_request(), {"choices": [], "usage": usage}) == Usage(
        input=997, cache_write_5m=1, cache_write_12h=2, output=10
    )


@pytest.mark.parametrize("count", [-1, 2**31, 10_000])
def test_absurd_writes_are_not_billed_beyond_the_prompt(count: int) -> None:
    details = DETAILS | {"cache_write_tokens_details": {"ttl_12h_tokens": count}}
    body = {"choices": [], "usage": CHAT_USAGE | {"prompt_tokens_details": details}}
    usage, _ = chat_request().measure(json.dumps(body).encode())
    assert usage is None or usage.prompt == 1000


def test_openai_clients_see_the_lifetimes() -> None:
    assert render_chat_usage(REPORTED)["prompt_tokens_details"] == DETAILS
    assert (render_responses_usage(REPORTED) or {})["input_tokens_details"] == DETAILS


# Requests -----------------------------------------------------------------------------------------


def marked(field: str, mark: Any) -> list[Json]:
    return [{"role": "user", "content": [{"type": "text", "text": "Hi", field: mark}]}]


def in_options(ttl: Any) -> Json:
    return {"prompt_cache_options": {"ttl": ttl}}


def in_breakpoint(ttl: Any) -> Json:
    return {"input": marked("prompt_cache_breakpoint", {"ttl": ttl})}


@pytest.mark.parametrize(
    "request_",
    [
        responses_request(**in_options("12h")),
        chat_request(**in_options("12h")),
        chat_request(Prompt_Cache_Options={"ttl": "12h"}),
        responses_request(**in_breakpoint("12h")),
        chat_request(prompt_cache_retention="24h"),
        responses_request(previous_response_id="resp_1"),
        responses_request(conversation="conv_1"),
    ],
)
def test_request_that_may_write_for_12_hours_reserves_its_price(request_: ClientRequest) -> None:
    assert request_.facts.writes_12h_cache
    assert request_.facts.unbounded_cost_fields == ()


@pytest.mark.parametrize(
    "request_",
    [
        responses_request(),
        responses_request(**in_options("30m")),
        responses_request(prompt_cache_options=None, prompt_cache_retention=None),
        responses_request(prompt_cache_options={"mode": "explicit"}),
        responses_request(**in_breakpoint("30m")),
        chat_request(prompt_cache_retention="in_memory"),
        responses_request(input='a text about "ttl": "12h"'),
        messages_request(cache_control={"type": "ephemeral", "ttl": "1h"}),
    ],
)
def test_other_requests_do_not(request_: ClientRequest) -> None:
    assert not request_.facts.writes_12h_cache
    assert request_.facts.unbounded_cost_fields == ()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (responses_request(**in_options("7d")), "prompt_cache_options"),
        (responses_request(**in_options(43200)), "prompt_cache_options"),
        (responses_request(**in_breakpoint("7d")), "prompt_cache_breakpoint"),
        (chat_request(prompt_cache_retention="7d"), "prompt_cache_retention"),
        (messages_request(cache_control={"type": "ephemeral", "ttl": "24d"}), "cache_control"),
        (
            messages_request(system=[{"type": "text", "text": "x", "cache_control": {"ttl": "1y"}}]),
            "cache_control",
        ),
    ],
)
def test_lifetime_without_a_known_price_has_no_bound(request_: ClientRequest, field: str) -> None:
    assert request_.facts.unbounded_cost_fields == (field,)
