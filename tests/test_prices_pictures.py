"""Pictures that OpenAI's image tool makes: counted as they are stated, by the vendor's documents where they are not, and held before."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, PriceOverride
from billing.prices import Tokens, bundled
from keys.models import ApiKey
from projects.models import Project
from proxy.formats import openai_responses
from proxy.formats.openai_responses.relay import ResponsesCall
from tests.live import LiveGateway, the_record
from tests.upstream import LocalUpstream

USD = 10**9
MINI = {"type": "image_generation", "model": "gpt-image-1-mini", "size": "1024x1024", "quality": "low"}
PICTURE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aW1n", "size": "1024x1024", "quality": "low"}
TEXT = {"type": "message", "content": [{"type": "output_text", "text": "Done"}]}
STATED = {
    "input_tokens": 1_140,
    "input_tokens_details": {"text_tokens": 140, "image_tokens": 1_000},
    "cached_tokens": 340,
    "cached_tokens_details": {"cached_text_tokens": 40, "cached_image_tokens": 300},
    "output_tokens": 282,
    "output_tokens_details": {"image_tokens": 272, "text_tokens": 10},
}
KINDS = {"text_input": 100, "cached_text_input": 40, "image_input": 700, "cached_image_input": 300, "text_output": 10, "image_output": 272}


def asked(**fields: Any) -> ResponsesCall:
    return ResponsesCall(json.dumps({"model": "gpt-5", "input": "Draw", **fields}).encode())


def answered(*output: dict[str, Any], tool: dict[str, Any] | None = None, image_gen: Any = None) -> dict[str, Any]:
    usage = {"input_tokens": 50, "output_tokens": 20}
    told = {} if image_gen is None else {"tool_usage": {"image_gen": image_gen, "web_search": {"num_requests": 0}}}
    answer = {"id": "resp_1", "status": "completed", "model": "gpt-5", "output": list(output), "tools": [tool or MINI]}
    return {**answer, "usage": usage, **told}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def calls_in(answer: dict[str, Any]) -> dict[str, int]:
    """Of one answer, read in all the ways there are."""
    usage, _ = asked().measure(json.dumps(answer).encode())
    meter = asked(stream=True).meter()
    meter.feed(event(type="response.completed", response=answer))
    converted = openai_responses.parse_response(json.dumps(answer).encode()).usage
    assert usage is not None and usage == meter.usage == converted
    return usage.tool_calls


def named(model: str, kinds: dict[str, int]) -> dict[str, int]:
    return {f"{model}: {kind}": count for kind, count in kinds.items()}


def test_what_is_stated_is_told_apart_by_what_it_costs() -> None:
    assert calls_in(answered(PICTURE, TEXT, image_gen=STATED)) == {"image_generation": 1, **named("gpt-image-1-mini", KINDS)}


def test_what_is_not_told_apart_counts_as_what_costs_more() -> None:
    flat = {"input_tokens": 30, "output_tokens": 272, "cached_tokens": 20}
    expected = {"image_generation": 1, "gpt-image-1-mini: image_input": 30, "gpt-image-1-mini: image_output": 272}
    assert calls_in(answered(PICTURE, image_gen=flat)) == expected


@pytest.mark.parametrize(
    ("tool", "picture", "tokens"),
    [
        # developers.openai.com/api/docs/guides/image-generation, "Cost and latency": the table for models before gpt-image-2.
        (MINI, {}, 272),
        (MINI, {"size": "1024x1536", "quality": "medium"}, 1584),
        (MINI, {"size": "1536x1024", "quality": "high"}, 6208),
        (MINI, {"size": None, "quality": "auto"}, 4160),
        ({"type": "image_generation", "model": "gpt-image-1.5"}, {"size": None, "quality": None}, 6240),
        # Its calculator for gpt-image-2: 196, 1,756 and 7,024 for a square, 5,488 for a portrait in high quality.
        ({"type": "image_generation", "model": "gpt-image-2"}, {}, 196),
        ({"type": "image_generation", "model": "gpt-image-2"}, {"quality": "medium"}, 1756),
        ({"type": "image_generation", "model": "gpt-image-2"}, {"quality": "high", "size": "1024x1536"}, 5488),
        ({"type": "image_generation", "model": "gpt-image-2"}, {"quality": "high", "size": "1600x1600"}, 14_272),
        ({"type": "image_generation"}, {"quality": "max"}, 4 * 7024),
    ],
)
@pytest.mark.parametrize("stated", [None, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}])
def test_what_is_not_stated_is_counted_by_size_and_quality_and_says_so(
    tool: dict[str, Any], picture: dict[str, Any], tokens: int, stated: Any
) -> None:
    calls = calls_in(answered({**PICTURE, **picture}, tool=tool, image_gen=stated))
    assert calls.pop("image_generation") == 1
    assert calls == {f"{tool.get('model', 'gpt-image-2.6-sunburst')}: estimated_image_output": tokens}


def test_pictures_that_failed_cost_nothing() -> None:
    assert calls_in(answered({**PICTURE, "status": "failed"}, TEXT)) == {}


def test_a_name_that_no_model_has_is_not_kept() -> None:
    assert calls_in(answered(PICTURE, tool={**MINI, "model": "m\0" * 90}))["gpt-image-2.6-sunburst: estimated_image_output"] == 196


def test_containers_of_a_hosted_shell_are_counted_once_each_and_those_of_the_client_not() -> None:
    hosted = {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c1"}}
    other = {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c2"}}
    offered = {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}
    assert calls_in(answered(hosted, hosted, other, tool=offered)) == {"shell_16g": 2}
    assert calls_in(answered({"type": "shell_call", "environment": {"type": "local"}}, {"type": "shell_call"}, tool=offered)) == {}


def test_as_much_is_held_as_the_pictures_that_were_asked_for_can_use() -> None:
    limits = asked(tools=[MINI | {"partial_images": 3}], max_tool_calls=2).call.tool_limits
    assert (limits["image_generation"], limits["gpt-image-1-mini: image_output"]) == (2, 2 * (272 + 300))
    assert asked(tools=[MINI]).call.tool_limits["image_generation"] == 4
    price = bundled("openai", "gpt-5")
    assert price is not None
    used = {"image_generation": 2, **{kind: 2 * count for kind, count in named("gpt-image-1-mini", KINDS).items()}}
    used["gpt-image-1-mini: image_input"] = 2 * 12_500
    most = price.ceiling("default", limits)
    assert most.fees >= price.cost(Tokens(), used)
    assert most.fetched == 2 * 25_000


def ask(gateway: LiveGateway, project: Project, **fields: Any) -> httpx.Response:
    """With a key that has a budget."""
    key, token = ApiKey.objects.mint(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=10 * USD)
    sent = {"model": "openai/gpt-5", "input": "Draw", "max_output_tokens": 50, "service_tier": "default", "tools": [MINI], **fields}
    return httpx.post(f"{gateway.url}/v1/responses", json=sent, headers={"authorization": f"Bearer {token}"}, timeout=20)


def answering(answer: dict[str, Any]) -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(answer)

    return respond


WORDS = 50 * 1_250 + 20 * 10_000
"""What gpt-5 itself costs for 50 tokens in and 20 out."""


@pytest.mark.databases
def test_a_picture_is_charged_beside_the_words_and_explained(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.answer = answering(answered(PICTURE, TEXT, image_gen=STATED))
    assert ask(live_gateway, demo_project).status_code == 200
    record = the_record()
    drawn = 100 * 2_000 + 40 * 200 + 700 * 2_500 + 300 * 250 + (10 + 272) * 8_000
    assert (record.cost_nano, record.estimated) == (WORDS + drawn, False)
    assert sum(line.amount for line in record.lines) == record.cost_nano * 10**6
    assert {line.kind for line in record.lines} == {"input", "output", *named("gpt-image-1-mini", KINDS)}
    assert record.held_nano is not None and record.held_nano > 4 * (272 * 8_000 + 12_500 * 2_500)
    assert record.price_kept is not None and [rates.name for rates in record.price_kept.pictures] == ["gpt-image-1-mini"]


@pytest.mark.databases
def test_a_picture_whose_tokens_are_not_stated_makes_the_record_an_estimate(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.answer = answering(answered(PICTURE, TEXT))
    assert ask(live_gateway, demo_project).headers["x-cost-usd"] == "0.0024385"
    record = the_record()
    assert (record.cost_nano, record.estimated, record.output_tokens) == (WORDS + 272 * 8_000, True, 20)


@pytest.mark.databases
def test_a_picture_of_a_stream_that_breaks_off_is_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    async def breaking(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(type="response.output_item.done", output_index=0, item=PICTURE))
        await response.write(event(type="response.output_text.delta", delta="Done"))
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.answer = breaking
    ask(live_gateway, demo_project, stream=True)
    record = the_record()
    assert record.tool_calls == {"image_generation": 1, "gpt-image-1-mini: estimated_image_output": 272}
    assert (record.outcome, record.estimated, record.output_tokens) == ("upstream_error", True, 1)
    assert record.cost_nano == record.input_tokens * 1_250 + 10_000 + 272 * 8_000


def test_a_price_of_the_projects_own_names_the_fee_of_a_picture(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    PriceOverride.objects.create(project=demo_project, model="gpt-5", input_nano=0, output_nano=0, tool_fees={"image_generation": 7})
    upstream.answer = answering(answered(PICTURE, {**PICTURE, "id": "ig_2"}, image_gen=STATED))
    assert ask(live_gateway, demo_project).headers["x-cost-usd"] == "0.000000014"
    assert the_record().cost_nano == 14
