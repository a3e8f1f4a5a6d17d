"""The strict provider accepts valid conversations, and rejects what the vendors reject."""

from copy import deepcopy
from typing import Any

import pytest

from tests.support.strict_provider.provider import StrictProvider
from tests.support.strict_provider.signatures import sign

Json = dict[str, Any]

CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT: Json = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ],
}
RESPONSES: Json = {
    "model": "m",
    "input": [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sign("responses", "rs_1")},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ],
}
MESSAGES: Json = {
    "model": "m",
    "max_tokens": 4000,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": sign("anthropic", "Hm.")},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]},
    ],
}
GEMINI: Json = {
    "contents": [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": sign("gemini", "f")},
            ],
        },
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": 1}}}]},
    ]
}
PATHS: dict[str, tuple[str, Json]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "compatible": ("/compatible/v1/chat/completions", CHAT),
    "reasoning": ("/reasoning/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSES),
    "messages": ("/v1/messages", MESSAGES),
    "gemini": ("/v1beta/models/gemini-3-pro-preview:generateContent", GEMINI),
}
DELETE = object()
REFUSED = [
    ("chat", ["messages", 1, "reasoning_content"], "Hm.", "Unknown parameter"),
    ("chat", ["messages", 1, "tool_calls"], [], "empty array"),
    ("chat", ["messages", 1, "tool_calls", 0, "id"], "c" * 41, "expected 1 to 40"),
    ("chat", ["messages", 2], DELETE, "must be followed by tool messages"),
    ("chat", ["messages", 2, "tool_call_id"], "other", "must be a response"),
    ("reasoning", ["messages", 1, "content"], "", "reasoning_content"),
    ("responses", ["input", 1, "encrypted_content"], "anthropic#c2ln", "could not be verified"),
    ("responses", ["input", 1, "encrypted_content"], DELETE, "not found"),
    ("responses", ["input", 2, "id"], "call_1", "begins with 'fc_'"),
    ("responses", ["input", 3], DELETE, "No tool output found"),
    ("responses", ["input", 2], DELETE, "without its required following item"),
    ("messages", ["messages", 1, "content", 0, "signature"], "openai_chat#", "Invalid `signature`"),
    ("messages", ["messages", 1, "content", 0, "thinking"], "Changed.", "Invalid `signature`"),
    ("messages", ["messages", 1, "content", 0], DELETE, "must start with it"),
    ("messages", ["messages", 2], DELETE, "without `tool_result`"),
    ("gemini", ["contents", 1, "parts", 0, "thoughtSignature"], "anthropic#c2ln", "not valid"),
    ("gemini", ["contents", 1, "parts", 0, "thoughtSignature"], DELETE, "missing a thought_signature"),
    ("gemini", ["contents", 2], DELETE, "function response parts"),
]


def violations(name: str, body: Json) -> tuple[str, ...]:
    answer = StrictProvider().answer(PATHS[name][0], body)
    assert answer is not None
    return answer.violations


@pytest.mark.parametrize("name", ["chat", "compatible", "responses", "messages", "gemini"])
def test_a_correct_conversation_is_accepted(name: str) -> None:
    assert violations(name, PATHS[name][1]) == ()


@pytest.mark.parametrize(("name", "path", "value", "message"), REFUSED)
def test_what_a_vendor_refuses_is_refused(name: str, path: list[Any], value: Any, message: str) -> None:
    body = deepcopy(PATHS[name][1])
    parent: Any = body
    for key in path[:-1]:
        parent = parent[key]
    if value is DELETE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    assert message in " ".join(violations(name, body))
