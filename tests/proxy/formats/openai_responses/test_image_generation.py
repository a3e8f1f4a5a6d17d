"""Images of OpenAI's tool: their reservation, and their usage as reported or as documented."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, PriceOverride
from billing.pricing import Tokens, bundled_price
from keys.models import ApiKey
from projects.models import Project
from proxy.formats import openai_responses
from proxy.formats.openai_responses.passthrough import ResponsesRequest
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

USD = 10**9
MINI = {"type": "image_generation", "model": "gpt-image-1-mini", "size": "1024x1024", "quality": "low"}
IMAGE_DATA = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": "aW1n",
    "size": "1024x1024",
    "quality": "low",
}
TEXT = {"type": "message", "content": [{"type": "output_text", "text": "Done"}]}
REPORTED_USAGE = {
    "input_tokens": 1_140,
    "input_tokens_details": {"text_tokens": 140, "image_tokens": 1_000},
    "cached_tokens": 340,
    "cached_tokens_details": {"cached_text_tokens": 40, "cached_image_tokens": 300},
    "output_tokens": 282,
    "output_tokens_details": {"image_tokens": 272, "text_tokens": 10},
}
KINDS = {
    "text_input": 100,
    "cached_text_input": 40,
    "image_input": 700,
    "cached_image_input": 300,
    "text_output": 10,
    "image_output": 272,
}


def request_limits(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest(json.dumps({"model": "gpt-5", "input": "Draw", **fields}).encode())


def response_usage(
    *output: dict[str, Any], tool: dict[str, Any] | None = None, image_gen: Any = None
) -> dict[str, Any]:
    usage = {"input_tokens": 50, "output_tokens": 20}
    reported = (
        {}
        if image_gen is None
        else {"tool_usage": {"image_gen": image_gen, "web_search": {"num_requests": 0}}}
    )
    response = {
        "id": "resp_1",
        "status": "completed",
        "model": "gpt-5",
        "output": list(output),
        "tools": [tool or MINI],
    }
    return {**response, "usage": usage, **reported}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def calls_in(response: dict[str, Any]) -> dict[str, int]:
    """Return the billed calls of a response. Assert that all ways to read the response agree."""
    usage, _ = request_limits().measure(json.dumps(response).encode())
    meter = request_limits(stream=True).meter()
    meter.feed(event(type="response.completed", response=response))
    converted = openai_responses.parse_response(json.dumps(response).encode()).usage
    assert usage is not None and usage == meter.usage == converted
    return usage.billable_extras


def kinds_of_model(model: str, kinds: dict[str, int]) -> dict[str, int]:
    return {f"{model}: {kind}": count for kind, count in kinds.items()}


def test_reported_image_usage_is_split_by_rate() -> None:
    assert calls_in(response_usage(IMAGE_DATA, TEXT, image_gen=REPORTED_USAGE)) == {
        "image_generation": 1,
        **kinds_of_model("gpt-image-1-mini", KINDS),
    }


def test_unsplit_image_usage_counts_at_the_higher_rate() -> None:
    flat = {"input_tokens": 30, "output_tokens": 272, "cached_tokens": 20}
    expected = {
        "image_generation": 1,
        "gpt-image-1-mini: image_input": 30,
        "gpt-image-1-mini: image_output": 272,
    }
    assert calls_in(response_usage(IMAGE_DATA, image_gen=flat)) == expected


@pytest.mark.parametrize(
    ("tool", "image_call", "tokens"),
    [
        # The table for models before gpt-image-2
        # (developers.openai.com/api/docs/guides/image-generation, "Cost and latency").
        (MINI, {}, 272),
        (MINI, {"size": "1024x1536", "quality": "medium"}, 1584),
        (MINI, {"size": "1536x1024", "quality": "high"}, 6208),
        (MINI, {"size": None, "quality": "auto"}, 4160),
        ({"type": "image_generation", "model": "gpt-image-1.5"}, {"size": None, "quality": None}, 6240),
        # Its calculator for gpt-image-2: 196, 1,756 and 7,024 for a square,
        # 5,488 for a portrait in high quality.
        ({"type": "image_generation", "model": "gpt-image-2"}, {}, 196),
        ({"type": "image_generation", "model": "gpt-image-2"}, {"quality": "medium"}, 1756),
        (
            {"type": "image_generation", "model": "gpt-image-2"},
            {"quality": "high", "size": "1024x1536"},
            5488,
        ),
        (
            {"type": "image_generation", "model": "gpt-image-2"},
            {"quality": "high", "size": "1600x1600"},
            14_272,
        ),
        ({"type": "image_generation"}, {"quality": "max"}, 4 * 7024),
    ],
)
@pytest.mark.parametrize("stated", [None, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}])
def test_unreported_image_usage_is_estimated_by_size_and_quality(
    tool: dict[str, Any], image_call: dict[str, Any], tokens: int, stated: Any
) -> None:
    calls = calls_in(response_usage({**IMAGE_DATA, **image_call}, tool=tool, image_gen=stated))
    assert calls.pop("image_generation") == 1
    assert calls == {f"{tool.get('model', 'gpt-image-2.6-sunburst')}: estimated_image_output": tokens}


def test_failed_images_cost_nothing() -> None:
    assert calls_in(response_usage({**IMAGE_DATA, "status": "failed"}, TEXT)) == {}


def test_invalid_model_name_is_not_recorded() -> None:
    assert (
        calls_in(response_usage(IMAGE_DATA, tool={**MINI, "model": "m\0" * 90}))[
            "gpt-image-2.6-sunburst: estimated_image_output"
        ]
        == 196
    )


def test_hosted_shell_containers_are_counted_once_each() -> None:
    hosted = {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c1"}}
    other = {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c2"}}
    offered = {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}
    assert calls_in(response_usage(hosted, hosted, other, tool=offered)) == {"shell_16g": 2}
    assert (
        calls_in(
            response_usage(
                {"type": "shell_call", "environment": {"type": "local"}}, {"type": "shell_call"}, tool=offered
            )
        )
        == {}
    )


def test_reservation_covers_the_requested_images() -> None:
    limits = request_limits(tools=[MINI | {"partial_images": 3}], max_tool_calls=2).facts.max_billable_extras
    assert (limits["image_generation"], limits["gpt-image-1-mini: image_output"]) == (2, 2 * (272 + 300))
    assert request_limits(tools=[MINI]).facts.max_billable_extras["image_generation"] == 4
    price = bundled_price("openai", "gpt-5")
    assert price is not None
    used = {
        "image_generation": 2,
        **{kind: 2 * count for kind, count in kinds_of_model("gpt-image-1-mini", KINDS).items()},
    }
    used["gpt-image-1-mini: image_input"] = 2 * 12_500
    most = price.max_cost("default", limits)
    assert most.fees_nano >= price.cost(Tokens(), used)
    assert most.tool_input_tokens == 2 * 25_000


def ask(gateway: LiveGateway, project: Project, **fields: Any) -> httpx.Response:
    """Send a request with a key that has a budget."""
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=10 * USD)
    sent = {
        "model": "openai/gpt-5",
        "input": "Draw",
        "max_output_tokens": 50,
        "service_tier": "default",
        "tools": [MINI],
        **fields,
    }
    return httpx.post(
        f"{gateway.url}/v1/responses", json=sent, headers={"authorization": f"Bearer {token}"}, timeout=20
    )


def responding_with(response: dict[str, Any]) -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(response)

    return respond


MESSAGE_TEXT = 50 * 1_250 + 20 * 10_000
"""Cost of gpt-5 itself for 50 tokens of input and 20 of output."""


@pytest.mark.databases
def test_image_is_charged_beside_the_text_and_explained(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = responding_with(response_usage(IMAGE_DATA, TEXT, image_gen=REPORTED_USAGE))
    assert ask(live_gateway, demo_project).status_code == 200
    record = only_record()
    drawn = 100 * 2_000 + 40 * 200 + 700 * 2_500 + 300 * 250 + (10 + 272) * 8_000
    assert (record.cost_nano, record.estimated) == (MESSAGE_TEXT + drawn, False)
    assert sum(line.amount_femto for line in record.cost_lines) == record.cost_nano * 10**6
    assert {line.kind for line in record.cost_lines} == {
        "input",
        "output",
        *kinds_of_model("gpt-image-1-mini", KINDS),
    }
    assert record.reserved_nano is not None and record.reserved_nano > 4 * (272 * 8_000 + 12_500 * 2_500)
    assert record.applied_price is not None and [
        rates.model_prefix for rates in record.applied_price.image_models
    ] == ["gpt-image-1-mini"]


@pytest.mark.databases
def test_unreported_image_tokens_make_the_record_an_estimate(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = responding_with(response_usage(IMAGE_DATA, TEXT))
    assert ask(live_gateway, demo_project).headers["x-cost-usd"] == "0.0024385"
    record = only_record()
    assert (record.cost_nano, record.estimated, record.output_tokens) == (
        MESSAGE_TEXT + 272 * 8_000,
        True,
        20,
    )


@pytest.mark.databases
def test_image_of_an_interrupted_stream_is_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    async def breaking(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(type="response.output_item.done", output_index=0, item=IMAGE_DATA))
        await response.write(event(type="response.output_text.delta", delta="Done"))
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.handler = breaking
    ask(live_gateway, demo_project, stream=True)
    record = only_record()
    assert record.billable_extras == {"image_generation": 1, "gpt-image-1-mini: estimated_image_output": 272}
    assert (record.outcome, record.estimated, record.output_tokens) == ("upstream_error", True, 1)
    assert record.cost_nano == record.input_tokens * 1_250 + 10_000 + 272 * 8_000


def test_project_price_sets_the_fee_of_an_image(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    PriceOverride.objects.create(
        project=demo_project, model="gpt-5", input_nano=0, output_nano=0, tool_fees={"image_generation": 7}
    )
    upstream.handler = responding_with(
        response_usage(IMAGE_DATA, {**IMAGE_DATA, "id": "ig_2"}, image_gen=REPORTED_USAGE)
    )
    assert ask(live_gateway, demo_project).headers["x-cost-usd"] == "0.000000014"
    assert only_record().cost_nano == 14
