"""No text reaches a model that the bound of its request leaves out."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.formats.anthropic.relay import AnthropicCall
from proxy.formats.bounds import IMAGE_TOKENS, STORED_TOKENS
from proxy.formats.completions import CompletionsCall
from proxy.formats.gemini.relay import GeminiCall
from proxy.formats.openai_chat.relay import ChatCall
from proxy.formats.openai_embeddings import EmbeddingsCall
from proxy.formats.openai_responses.relay import ResponsesCall

BIG = "x" * 100_000
DISGUISED = "data:image/png;base64," + BIG
PICTURE = "data:image/png;base64," + "A" * 100_000


def chat(**fields: Any) -> int:
    return bound(ChatCall, {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})


def responses(*items: Any, **fields: Any) -> int:
    return bound(ResponsesCall, {"model": "m", "input": list(items), **fields})


def anthropic(*blocks: Any, **fields: Any) -> int:
    return bound(AnthropicCall, {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": list(blocks)}], **fields})


def gemini(*parts: Any, **fields: Any) -> int:
    return bound(lambda body: GeminiCall(body, "m"), {"contents": [{"role": "user", "parts": list(parts)}], **fields})


def bound(parse: Callable[[bytes], Any], body: dict[str, Any]) -> int:
    tokens: int = parse(json.dumps(body).encode()).call.input_bound
    return tokens


def say(*content: Any) -> int:
    return chat(messages=[{"role": "user", "content": list(content)}])


SCHEMA_IMAGE = {"type": "image_url", "image_url": {"url": PICTURE}}


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: chat(messages=[{"role": "user", "content": DISGUISED}]),
        lambda: say({"type": "text", "text": DISGUISED}),
        lambda: say({"type": "text", "image_url": {"url": PICTURE}, "text": BIG}),
        lambda: say({**SCHEMA_IMAGE, "text": BIG}),
        lambda: say({"type": "image_url", "image_url": {"url": PICTURE, "text": BIG}}),
        lambda: say({"type": "image_url", "image_url": {"url": BIG}}),
        lambda: say({"type": "image_url", "image_url": [BIG]}),
        lambda: chat(messages=[{"role": "user", "content": "x", BIG: 1}]),
        lambda: chat(messages=[{"role": "user", "content": "x", "extra": {"a": {BIG: 1}}}]),
        lambda: chat(messages=[{"role": "user", "content": "x", "numbers": [1] * 50_000}]),
        lambda: chat(prediction={"type": "content", "content": BIG}),
        lambda: chat(documents=[BIG]),
        lambda: chat(chat_template=BIG),
        lambda: responses(DISGUISED),
        lambda: responses({"role": "user", "content": DISGUISED}),
        lambda: responses({"type": "input_image", "image_url": PICTURE, "text": BIG}),
        lambda: responses({"type": "input_image", "image_url": BIG}),
        lambda: responses({"role": "user", "content": "x", BIG: 1}),
        lambda: responses("x", unknown={"a": BIG}),
        lambda: anthropic({"type": "text", "text": DISGUISED}),
        lambda: anthropic({"type": "image", "source": {"type": "base64", "data": "A"}, "text": BIG}),
        lambda: anthropic({"type": "image", "source": {"type": "base64", "data": "A", "text": BIG}}),
        lambda: anthropic({"type": "tool_use", "id": "i", "name": "n", "input": {BIG: 1}}),
        lambda: anthropic({"type": "tool_use", "id": "i", "name": "n", "input": {"type": "image", "source": {"data": BIG}}}),
        lambda: anthropic({"type": "tool_use", "id": "i", "name": "n", "input": [123456789] * 10_000}),
        lambda: anthropic({"type": "text", "text": "x"}, unknown={"a": BIG}),
        lambda: anthropic({"type": "text", "text": "x"}, system=DISGUISED),
        lambda: gemini({"text": DISGUISED}),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": "A"}, "text": BIG}),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": "A", "text": BIG}}),
        lambda: gemini({"inline_data": {"mime_type": "text/plain", "data": BIG}}),
        lambda: gemini({"functionResponse": {"name": "n", "response": {BIG: 1}}}),
        lambda: gemini({"functionCall": {"name": "n", "args": {"inlineData": {"mimeType": "image/png", "data": BIG}}}}),
        lambda: gemini({"text": "x"}, unknown=[BIG]),
        lambda: bound(EmbeddingsCall, {"model": "m", "input": [DISGUISED]}),
        lambda: bound(CompletionsCall, {"model": "m", "prompt": DISGUISED}),
    ],
)
def test_text_counts_wherever_it_stands(tokens: Callable[[], int]) -> None:
    assert tokens() >= 90_000


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: say(SCHEMA_IMAGE),
        lambda: say({"type": "image_url", "image_url": PICTURE}),
        lambda: responses({"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}),
        lambda: responses({"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}),
        lambda: anthropic({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BIG}}),
        lambda: anthropic(
            {"type": "tool_result", "tool_use_id": "i", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
        ),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": BIG}}),
        lambda: gemini(
            {"functionResponse": {"name": "n", "response": {}, "parts": [{"inline_data": {"mime_type": "image/png", "data": BIG}}]}}
        ),
    ],
)
def test_pictures_count_by_a_formula_where_the_format_has_them(tokens: Callable[[], int]) -> None:
    assert IMAGE_TOKENS <= tokens() < IMAGE_TOKENS + 100


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: say({"type": "file", "file": {"file_id": "file-1"}}),
        lambda: say({"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}}),
        lambda: say({"type": "document_url", "document_url": "https://example.com/a.pdf"}),
        lambda: chat(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]),
        lambda: responses({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}),
        lambda: responses({"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}),
        lambda: responses({"type": "item_reference", "id": "msg_1"}),
        lambda: responses("x", previous_response_id="resp_1"),
        lambda: responses("x", conversation={"id": "conv_1"}),
        lambda: anthropic({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        lambda: anthropic({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}),
        lambda: anthropic({"type": "container_upload", "file_id": "f"}),
        lambda: gemini({"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a"}}),
        lambda: gemini({"file_data": {"file_uri": "files/abc"}}),
        lambda: gemini({"text": "x"}, cachedContent="cachedContents/1"),
    ],
)
def test_what_a_request_only_refers_to_may_be_long(tokens: Callable[[], int]) -> None:
    assert STORED_TOKENS <= tokens() < STORED_TOKENS + 200


@pytest.mark.parametrize(
    ("given", "limit"), [({"max_tokens": 9, "max_completion_tokens": 4}, 9), ({"max_tokens": 4, "max_completion_tokens": 9}, 9)]
)
def test_of_two_output_limits_the_larger_one_holds(given: dict[str, int], limit: int) -> None:
    call = ChatCall(json.dumps({"model": "m", "messages": [{}], **given}).encode()).call
    assert call.output_limit == limit


def test_settings_that_say_nothing_to_a_model_are_free() -> None:
    assert chat() == chat(temperature=0.5, user="u", metadata={"a": BIG}, stream_options={"include_usage": True}, reasoning_effort="high")
