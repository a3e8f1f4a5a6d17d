"""Rules choose requests by key, header, metadata, size and needed capabilities."""

from typing import Any

import pytest

from proxy.formats.anthropic import MessagesRequest
from proxy.formats.gemini import GenerateContentRequest
from proxy.formats.openai_responses import ResponsesRequest
from proxy.models.route_definitions import RuleDefinition
from proxy.routing.routes import rules
from tests.proxy.routing.routes.conftest import Given

OPENAI_IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("rule", "body", "expected"),
    [
        (RuleDefinition(), {}, True),
        (RuleDefinition(keys=("key1", "key2")), {}, True),
        (RuleDefinition(keys=("key2",)), {}, False),
        (RuleDefinition(headers={"X-Tier": "gold"}), {}, True),
        (RuleDefinition(headers={"X-Tier": "silver"}), {}, False),
        (RuleDefinition(metadata={"team": "a"}), {"metadata": {"team": "a"}}, True),
        (RuleDefinition(metadata={"team": "a"}), {"metadata": {"team": "b"}}, False),
        (RuleDefinition(metadata={"team": "a"}), {"metadata": "a"}, False),
        (RuleDefinition(min_input_tokens=1000), {}, False),
        (RuleDefinition(min_input_tokens=1000), {"user": "x" * 5000}, True),
        (RuleDefinition(max_input_tokens=1000), {"user": "x" * 5000}, False),
        (RuleDefinition(max_input_tokens=1000), {}, True),
        (RuleDefinition(capabilities=("tools",)), {}, False),
        (RuleDefinition(capabilities=("tools",)), {"tools": []}, False),
        (RuleDefinition(capabilities=("tools",)), {"tools": [TOOL]}, True),
        (RuleDefinition(capabilities=("vision",)), {}, False),
        (
            RuleDefinition(capabilities=("vision",)),
            {"messages": [{"role": "user", "content": [OPENAI_IMAGE]}]},
            True,
        ),
        (RuleDefinition(keys=("key1",), capabilities=("tools",)), {}, False),
    ],
)
def test_a_request_meets_all_conditions_of_a_rule(
    given: Given, rule: RuleDefinition, body: dict[str, Any], expected: bool
) -> None:
    assert rules.matches(rule, given("key1", {"x-tier": "gold"}, **body)) is expected


IMAGE_REQUESTS = [
    MessagesRequest(
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image",'
        b'"source":{"type":"base64","media_type":"image/png","data":"aGk="}}]}]}'
    ),
    ResponsesRequest(
        b'{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"https://a/b"}]}]}'
    ),
    GenerateContentRequest(
        b'{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"aGk="}}]}]}', model="m"
    ),
]


def test_tags_of_the_header_count_too(given: Given) -> None:
    rule = RuleDefinition(metadata={"team": "a"})
    assert rules.matches(rule, given(headers={"x-gateway-metadata": '{"team": "a"}'}))


@pytest.mark.parametrize("request_", IMAGE_REQUESTS, ids=lambda request: type(request).__name__)
def test_images_are_found_in_every_format(request_: Any) -> None:
    assert rules.needs("vision", request_) and not rules.needs("tools", request_)


def test_a_deeply_nested_body_is_searched_only_to_a_limit(given: Given) -> None:
    deep: Any = OPENAI_IMAGE
    for _ in range(rules.MAX_PART_DEPTH + 2):
        deep = [deep]
    assert not rules.needs("vision", given(extra=deep).client_request)
