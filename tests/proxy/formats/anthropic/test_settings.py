"""Settings of Anthropic requests, adapted to the model."""

import pytest
from msgspec.structs import replace

from proxy.formats import anthropic
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Reasoning,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from tests.proxy.formats.anthropic.samples import NEWER_MODEL, REQUEST, WEATHER, render, wire_request


def test_anthropic_only_settings_are_reported_as_dropped() -> None:
    request = anthropic.parse_request(parse_object(wire_request(service_tier="auto", container="c1")))
    assert request.unmapped_settings == {"service_tier": "auto", "container": "c1"}
    assert render(request).dropped == ["service_tier", "container"]


def test_older_models_get_a_thinking_budget_below_max_tokens() -> None:
    def thinking(max_tokens: int | None, reasoning: Reasoning) -> tuple[int, int]:
        body = render(replace(REQUEST, max_tokens=max_tokens, reasoning=reasoning)).body
        return body["thinking"]["budget_tokens"], body["max_tokens"]

    assert thinking(None, Reasoning(effort="medium")) == (4096, 8192)
    assert thinking(20_000, Reasoning(budget=3000)) == (3000, 20_000)
    assert thinking(4000, Reasoning(effort="high")) == (2000, 4000)


def test_limit_below_every_budget_turns_thinking_off() -> None:
    rendered = render(replace(REQUEST, max_tokens=1024, reasoning=Reasoning(effort="low")))
    assert rendered.body["max_tokens"] == 1024 and "thinking" not in rendered.body
    assert rendered.dropped == ["reasoning"]


def test_newer_models_get_adaptive_thinking_with_effort() -> None:
    body = render(
        replace(REQUEST, model=NEWER_MODEL, reasoning=Reasoning(effort="minimal", visible=True))
    ).body
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "low"}
    assert render(replace(REQUEST, model=NEWER_MODEL, reasoning=Reasoning(effort="none"))).body[
        "thinking"
    ] == {"type": "disabled"}
    assert "thinking" not in render(replace(REQUEST, reasoning=Reasoning(effort="none"))).body


def test_settings_that_conflict_with_thinking_are_reported_as_dropped() -> None:
    choice = ToolChoice(mode="required", names=("weather",))
    rendered = render(
        replace(
            REQUEST,
            reasoning=Reasoning(),
            temperature=0.2,
            top_k=5,
            tools=(WEATHER,),
            tool_choice=choice,
        )
    )
    assert rendered.dropped == ["tool_choice", "temperature", "top_k"]
    assert rendered.body["tool_choice"] == {"type": "auto"}


def test_sampling_is_limited_to_what_the_model_supports() -> None:
    warm = render(replace(REQUEST, temperature=1.7))
    assert (warm.body["temperature"], warm.dropped) == (1, ["temperature;changed=lowered"])
    assert render(replace(REQUEST, temperature=0.5, top_p=0.9)).dropped == ["top_p"]
    assert render(replace(REQUEST, model=NEWER_MODEL, temperature=0.5, top_p=0.9)).dropped == [
        "temperature",
        "top_p",
    ]
    many = render(replace(REQUEST, seed=1, n=2, stop=(" ",)), "user")
    assert many.dropped == ["n;changed=lowered", "stop", "seed"]
    assert render(replace(REQUEST, temperature=0.5), "temperature").dropped == ["temperature"]


def test_output_schema_copy_closes_every_object() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {}}},
            "n": {"minimum": 1},
        },
    }
    body = render(replace(REQUEST, response_format=ResponseFormat(schema=schema))).body
    sent = body["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is sent["properties"]["a"]["items"]["additionalProperties"] is False
    assert sent["properties"]["n"] == {"description": "(minimum: 1)"}
    assert "additionalProperties" not in schema


def test_unsupported_json_mode_becomes_an_instruction() -> None:
    assert "JSON" in render(replace(REQUEST, response_format=ResponseFormat())).body["system"]
    old = render(
        replace(
            REQUEST,
            model="claude-3-haiku-20240307",
            response_format=ResponseFormat(schema={"type": "object"}),
        )
    )
    assert '{"type":"object"}' in old.body["system"]
    assert old.dropped == ["response_format"]


def test_tool_choice_subset_declares_only_those_tools() -> None:
    tools = (Tool(name="a"), Tool(name="b", schema={"properties": {}}), WEATHER)
    body = render(
        replace(
            REQUEST,
            tools=tools,
            tool_choice=ToolChoice(mode="required", names=("a", "b")),
            parallel_tool_calls=False,
        )
    ).body
    assert [(tool["name"], tool["input_schema"]["type"]) for tool in body["tools"]] == [
        ("a", "object"),
        ("b", "object"),
    ]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-sonnet-4-20250514", 32_000),
        ("house-model", 4096),
    ],
)
def test_missing_max_tokens_uses_the_model_default(model: str, limit: int) -> None:
    assert render(replace(REQUEST, model=model, max_tokens=None)).body["max_tokens"] == limit
