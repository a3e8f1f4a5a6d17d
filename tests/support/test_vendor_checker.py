"""The checker finds violations of each rule of the table in requests that are not adapted."""

from typing import Any, get_args

import pytest

from proxy.formats.constraints.constraint import Destination, Rule
from proxy.formats.constraints.table import CONSTRAINTS
from tests.support.vendor_checker import violations

Body = dict[str, Any]
OPENAI = Destination("openai", "openai_chat", "gpt-4o")
REASONING = Destination("openai", "openai_chat", "gpt-6-astra")
RESPONSES = Destination("openai", "openai_responses", "gpt-4o")
AZURE = Destination("azure", "openai_chat", "gpt-4o")
GROQ = Destination("groq", "openai_chat", "openai/gpt-oss-120b")
MISTRAL = Destination("mistral", "openai_chat", "mistral-large-latest")
DEEPSEEK = Destination("deepseek", "openai_chat", "deepseek-v4-pro")
FIREWORKS = Destination("fireworks", "openai_chat", "kimi-k2")
CLAUDE = Destination("anthropic", "anthropic", "claude-sonnet-4-5")
NEWEST_CLAUDE = Destination("anthropic", "anthropic", "claude-opus-5-5")
GEMINI = Destination("gemini", "gemini", "gemini-2.5-flash")
USER = {"role": "user", "content": "Hi"}
OBJECT = {"type": "object", "properties": {}}
STRICT = {**OBJECT, "additionalProperties": False}


def chat(*messages: Body, **fields: Any) -> Body:
    return {"model": "m", "messages": list(messages or (USER,)), **fields}


def claude(*messages: Body, **fields: Any) -> Body:
    return {"model": "m", "max_tokens": 4096, "messages": list(messages or (USER,)), **fields}


def gemini(**fields: Any) -> Body:
    return {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]} | fields


def chat_tool(schema: Any = OBJECT, name: str = "f", **more: Any) -> Body:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


def claude_tool(schema: Any = OBJECT, name: str = "f", **more: Any) -> Body:
    return {"name": name, "input_schema": schema, **more}


def gemini_tool(schema: Any) -> Body:
    return {"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}


def chat_format(schema: Any, **more: Any) -> Body:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


def chat_call(call_id: str) -> Body:
    function = {"name": "f", "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function}]}


def image(url: str) -> Body:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


MARKED = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
ANSWER = {"role": "assistant", "content": "Once upon"}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "ok"}
PNG_AS_JPEG = "data:image/jpeg;base64,iVBORw0KGgoAAAANSUhEUgAAAAE="
REJECTED: list[tuple[Rule, Destination, Body]] = [
    ("user", OPENAI, chat(user="x" * 65)),
    ("user", CLAUDE, claude(metadata={"user_id": "x" * 257})),
    ("metadata", OPENAI, chat(metadata={f"k{place}": "v" for place in range(17)})),
    ("max_tokens", OPENAI, chat(max_completion_tokens=20_000)),
    ("max_tokens", CLAUDE, claude(max_tokens=100_000)),
    ("max_tokens", GEMINI, gemini(generationConfig={"maxOutputTokens": 100_000})),
    ("max_tokens_without_stream", FIREWORKS, chat(max_tokens=5000)),
    ("min_tokens", RESPONSES, {"model": "m", "input": "Hi", "max_output_tokens": 15}),
    ("thinking_budget", CLAUDE, claude(thinking={"type": "enabled", "budget_tokens": 4096})),
    ("thinking_budget", CLAUDE, claude(thinking={"type": "enabled", "budget_tokens": 1000})),
    ("range", CLAUDE, claude(temperature=1.5)),
    ("range", OPENAI, chat(n=200)),
    ("seed", MISTRAL, chat(random_seed=-1)),
    ("stop_count", OPENAI, chat(stop=["a", "b", "c", "d", "e"])),
    ("stop_count", GEMINI, gemini(generationConfig={"stopSequences": list("abcdef")})),
    ("blank_stop", CLAUDE, claude(stop_sequences=["\n"])),
    ("unsupported_settings", REASONING, chat(presence_penalty=0.5, reasoning_effort="none")),
    ("unsupported_settings", GEMINI, gemini(generationConfig={"responseLogprobs": True, "logprobs": 2})),
    ("sampling", REASONING, chat(temperature=0.5)),
    ("exclusive", CLAUDE, claude(temperature=0.5, top_p=0.5)),
    ("thinking_sampling", CLAUDE, claude(top_k=5, thinking={"type": "enabled", "budget_tokens": 2000})),
    ("efforts", Destination("openai", "openai_chat", "gpt-5"), chat(reasoning_effort="xhigh")),
    ("format_with_tools", GROQ, chat(tools=[chat_tool()], response_format=chat_format(STRICT))),
    ("format_top_type", OPENAI, chat(response_format=chat_format({"type": "array", "items": {}}))),
    ("json_word", OPENAI, chat(response_format={"type": "json_object"})),
    ("tool_name", OPENAI, chat(tools=[chat_tool(name="a" * 65)])),
    ("tool_name", CLAUDE, claude(tools=[claude_tool(name="a.b")])),
    ("unique_tool_names", CLAUDE, claude(tools=[claude_tool(), claude_tool()])),
    ("tool_count", OPENAI, chat(tools=[chat_tool(name=f"f{place}") for place in range(129)])),
    ("tool_description", AZURE, chat(tools=[chat_tool(description="d" * 1025)])),
    ("forced_tool_choice", NEWEST_CLAUDE, claude(tools=[claude_tool()], tool_choice={"type": "any"})),
    ("tools_needed", OPENAI, chat(tools=[])),
    ("tools_needed", OPENAI, chat(tool_choice="auto")),
    ("tools_by_responses", REASONING, chat(tools=[chat_tool()], reasoning_effort="high")),
    ("top_level_type", OPENAI, chat(tools=[chat_tool({"type": "array", "items": {}})])),
    ("top_level_keywords", CLAUDE, claude(tools=[claude_tool({**OBJECT, "anyOf": [{}]})])),
    ("schema_draft", CLAUDE, claude(tools=[claude_tool({**OBJECT, "required": None})])),
    ("schema_draft", GEMINI, gemini(tools=[gemini_tool({**OBJECT, "items": [{}]})])),
    (
        "object_properties",
        OPENAI,
        chat(tools=[chat_tool({**OBJECT, "properties": {"a": {"type": "object"}}})]),
    ),
    ("array_items", OPENAI, chat(tools=[chat_tool({**OBJECT, "properties": {"a": {"type": "array"}}})])),
    ("property_keys", CLAUDE, claude(tools=[claude_tool({**OBJECT, "properties": {"$a": {}}})])),
    ("lone_reference", GEMINI, gemini(tools=[gemini_tool({**OBJECT, "not": {"$ref": "#/x", "title": "a"}})])),
    ("strict_subset", OPENAI, chat(tools=[chat_tool(OBJECT, strict=True)])),
    ("strict_subset", OPENAI, chat(response_format=chat_format(OBJECT, strict=True))),
    (
        "strict_limits",
        CLAUDE,
        claude(tools=[claude_tool(name=f"f{place}", strict=True) for place in range(21)]),
    ),
    ("call_id", OPENAI, chat(USER, chat_call("c" * 41))),
    ("call_id", MISTRAL, chat(USER, chat_call("call_1"), RESULT)),
    ("message_fields", GROQ, chat(USER, {**ANSWER, "reasoning_content": "hm"}, USER)),
    ("message_fields", MISTRAL, chat({"role": "user", "content": [MARKED]})),
    ("earlier_thinking", DEEPSEEK, chat(USER, chat_call("call_1"))),
    ("media_type", OPENAI, chat(image(PNG_AS_JPEG))),
    ("media_type", OPENAI, chat(image("data:image/jpg;base64,/9j/"))),
    ("base64", OPENAI, chat(image("data:image/svg+xml,%3Csvg/%3E"))),
    ("base64", OPENAI, chat(image("data:image/png;base64,_-_-"))),
    ("blank_text", CLAUDE, claude({"role": "user", "content": [{"type": "text", "text": " "}]})),
    ("empty_content", CLAUDE, claude(USER, {"role": "assistant", "content": []}, USER)),
    ("empty_content", OPENAI, chat({"role": "user", "content": []})),
    ("empty_content", GEMINI, gemini(contents=[{"role": "user", "parts": []}])),
    ("cache_breakpoints", CLAUDE, claude({"role": "user", "content": [MARKED] * 5})),
    ("last_role", MISTRAL, chat(USER, ANSWER)),
    ("last_role", NEWEST_CLAUDE, claude(USER, ANSWER)),
    ("user_after_tool", MISTRAL, chat(USER, chat_call("abcdefghi"), RESULT, USER)),
]


@pytest.mark.parametrize(("rule", "destination", "body"), REJECTED)
def test_a_request_that_a_vendor_rejects_is_found(rule: Rule, destination: Destination, body: Body) -> None:
    rules = {row.id: row.rule for row in CONSTRAINTS}
    assert rule in {rules[problem.partition(":")[0]] for problem in violations(body, destination)}


@pytest.mark.parametrize(
    ("destination", "body"),
    [
        (OPENAI, chat(tools=[chat_tool()], user="x" * 64, stop=list("abcd"), temperature=2, n=128)),
        (REASONING, chat(reasoning_effort="xhigh", max_completion_tokens=128_000)),
        (RESPONSES, {"model": "m", "input": "Hi", "max_output_tokens": 16, "temperature": 0.5}),
        (MISTRAL, chat(USER, chat_call("abcdefghi"), RESULT)),
        (CLAUDE, claude(tools=[claude_tool()], tool_choice={"type": "any"}, stop_sequences=list("abcdef"))),
        (CLAUDE, claude(thinking={"type": "enabled", "budget_tokens": 1024}, temperature=1)),
        (CLAUDE, claude(USER, ANSWER)),
        (GEMINI, gemini(tools=[gemini_tool(OBJECT)], generationConfig={"maxOutputTokens": 65_536})),
    ],
)
def test_nothing_is_found_in_a_request_that_a_vendor_accepts(destination: Destination, body: Body) -> None:
    assert violations(body, destination) == []


def test_each_rule_has_a_rejected_request() -> None:
    assert {rule for rule, _, _ in REJECTED} == set(get_args(Rule))
