"""Bounds of input tokens cover every text that reaches a model."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.metering.token_bounds import IMAGE_TOKENS, REFERENCED_CONTENT_TOKENS
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest

BIG = "x" * 100_000
DISGUISED_IMAGE = "data:image/png;base64," + BIG
IMAGE = "data:image/png;base64," + "A" * 100_000


def chat(**fields: Any) -> int:
    return max_input_tokens(
        ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    )


def responses(*items: Any, **fields: Any) -> int:
    return max_input_tokens(ResponsesRequest, {"model": "m", "input": list(items), **fields})


def anthropic(*blocks: Any, **fields: Any) -> int:
    return max_input_tokens(
        MessagesRequest,
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": list(blocks)}], **fields},
    )


def gemini(*parts: Any, **fields: Any) -> int:
    return max_input_tokens(
        lambda body: GenerateContentRequest(body, "m"),
        {"contents": [{"role": "user", "parts": list(parts)}], **fields},
    )


def max_input_tokens(parse: Callable[[bytes], Any], body: dict[str, Any]) -> int:
    tokens: int = parse(json.dumps(body).encode()).facts.max_input_tokens
    return tokens


def text_part(*content: Any) -> int:
    return chat(messages=[{"role": "user", "content": list(content)}])


SCHEMA_IMAGE = {"type": "image_url", "image_url": {"url": IMAGE}}


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: chat(messages=[{"role": "user", "content": DISGUISED_IMAGE}]),
        lambda: text_part({"type": "text", "text": DISGUISED_IMAGE}),
        lambda: text_part({"type": "text", "image_url": {"url": IMAGE}, "text": BIG}),
        lambda: text_part({**SCHEMA_IMAGE, "text": BIG}),
        lambda: text_part({"type": "image_url", "image_url": {"url": IMAGE, "text": BIG}}),
        lambda: text_part({"type": "image_url", "image_url": {"url": BIG}}),
        lambda: text_part({"type": "image_url", "image_url": [BIG]}),
        lambda: chat(messages=[{"role": "user", "content": "x", BIG: 1}]),
        lambda: chat(messages=[{"role": "user", "content": "x", "extra": {"a": {BIG: 1}}}]),
        lambda: chat(messages=[{"role": "user", "content": "x", "numbers": [1] * 50_000}]),
        lambda: chat(prediction={"type": "content", "content": BIG}),
        lambda: chat(documents=[BIG]),
        lambda: chat(chat_template=BIG),
        lambda: responses(DISGUISED_IMAGE),
        lambda: responses({"role": "user", "content": DISGUISED_IMAGE}),
        lambda: responses({"type": "input_image", "image_url": IMAGE, "text": BIG}),
        lambda: responses({"type": "input_image", "image_url": BIG}),
        lambda: responses({"role": "user", "content": "x", BIG: 1}),
        lambda: responses("x", unknown={"a": BIG}),
        lambda: anthropic({"type": "text", "text": DISGUISED_IMAGE}),
        lambda: anthropic({"type": "image", "source": {"type": "base64", "data": "A"}, "text": BIG}),
        lambda: anthropic({"type": "image", "source": {"type": "base64", "data": "A", "text": BIG}}),
        lambda: anthropic({"type": "tool_use", "id": "i", "name": "n", "input": {BIG: 1}}),
        lambda: anthropic(
            {"type": "tool_use", "id": "i", "name": "n", "input": {"type": "image", "source": {"data": BIG}}}
        ),
        lambda: anthropic({"type": "tool_use", "id": "i", "name": "n", "input": [123456789] * 10_000}),
        lambda: anthropic({"type": "text", "text": "x"}, unknown={"a": BIG}),
        lambda: anthropic({"type": "text", "text": "x"}, system=DISGUISED_IMAGE),
        lambda: gemini({"text": DISGUISED_IMAGE}),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": "A"}, "text": BIG}),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": "A", "text": BIG}}),
        lambda: gemini({"inline_data": {"mime_type": "text/plain", "data": BIG}}),
        lambda: gemini({"functionResponse": {"name": "n", "response": {BIG: 1}}}),
        lambda: gemini(
            {"functionCall": {"name": "n", "args": {"inlineData": {"mimeType": "image/png", "data": BIG}}}}
        ),
        lambda: gemini({"text": "x"}, unknown=[BIG]),
        lambda: max_input_tokens(CreateEmbeddingRequest, {"model": "m", "input": [DISGUISED_IMAGE]}),
        lambda: max_input_tokens(CreateCompletionRequest, {"model": "m", "prompt": DISGUISED_IMAGE}),
    ],
)
def test_text_counts_in_every_field(tokens: Callable[[], int]) -> None:
    assert tokens() >= 90_000


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: text_part(SCHEMA_IMAGE),
        lambda: text_part({"type": "image_url", "image_url": IMAGE}),
        lambda: responses({"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}),
        lambda: responses({"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}),
        lambda: anthropic(
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BIG}}
        ),
        lambda: anthropic(
            {
                "type": "tool_result",
                "tool_use_id": "i",
                "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
            }
        ),
        lambda: gemini({"inlineData": {"mimeType": "image/png", "data": BIG}}),
        lambda: gemini(
            {
                "functionResponse": {
                    "name": "n",
                    "response": {},
                    "parts": [{"inline_data": {"mime_type": "image/png", "data": BIG}}],
                }
            }
        ),
    ],
)
def test_images_count_by_the_vendor_formula(tokens: Callable[[], int]) -> None:
    assert IMAGE_TOKENS <= tokens() < IMAGE_TOKENS + 100


@pytest.mark.parametrize(
    "tokens",
    [
        lambda: text_part({"type": "file", "file": {"file_id": "file-1"}}),
        lambda: text_part(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}}
        ),
        lambda: text_part({"type": "document_url", "document_url": "https://example.com/a.pdf"}),
        lambda: chat(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]),
        lambda: responses({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}),
        lambda: responses(
            {"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}
        ),
        lambda: responses({"type": "item_reference", "id": "msg_1"}),
        lambda: responses("x", previous_response_id="resp_1"),
        lambda: responses("x", conversation={"id": "conv_1"}),
        lambda: anthropic({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        lambda: anthropic(
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
        ),
        lambda: anthropic({"type": "container_upload", "file_id": "f"}),
        lambda: gemini({"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a"}}),
        lambda: gemini({"file_data": {"file_uri": "files/abc"}}),
        lambda: gemini({"text": "x"}, cachedContent="cachedContents/1"),
    ],
)
def test_referenced_content_counts_as_a_full_context_window(tokens: Callable[[], int]) -> None:
    assert REFERENCED_CONTENT_TOKENS <= tokens() < REFERENCED_CONTENT_TOKENS + 200


@pytest.mark.parametrize(
    ("given", "limit"),
    [({"max_tokens": 9, "max_completion_tokens": 4}, 9), ({"max_tokens": 4, "max_completion_tokens": 9}, 9)],
)
def test_larger_of_two_output_limits_applies(given: dict[str, int], limit: int) -> None:
    call = ChatRequest(json.dumps({"model": "m", "messages": [{}], **given}).encode()).facts
    assert call.max_output_tokens == limit


def test_plain_settings_cost_no_tokens() -> None:
    assert chat() == chat(
        temperature=0.5,
        user="u",
        metadata={"a": BIG},
        stream_options={"include_usage": True},
        reasoning_effort="high",
    )
