"""Errors about prompts that are too long are recognized, and have the texts that agents look for."""

import json
from typing import Any

import pytest

from proxy.formats.neutral import ApiError
from proxy.formats.registry import CODECS

Json = dict[str, Any]


def openai_body(message: str, **fields: Any) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def anthropic_body(message: str, type: str = "invalid_request_error") -> Json:
    return {"type": "error", "error": {"type": type, "message": message}}


def gemini_body(message: str) -> Json:
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


OPENAI_TEXT = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens."
)
REFUSALS: dict[str, tuple[str, int, Json, bool]] = {
    "OpenAI": ("openai_chat", 400, openai_body(OPENAI_TEXT, code="context_length_exceeded"), True),
    "OpenAI Responses": (
        "openai_responses",
        400,
        openai_body(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            code="context_length_exceeded",
        ),
        False,
    ),
    "vLLM": (
        "openai_chat",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 128000 tokens. However, you requested 130000 "
            "tokens (129000 in the messages, 1000 in the completion).",
            "type": "BadRequestError",
            "code": 400,
        },
        True,
    ),
    "llama.cpp": (
        "openai_chat",
        400,
        openai_body(
            "request (130000 tokens) exceeds the available context size (128000 tokens), try increasing it",
            type="exceed_context_size_error",
        ),
        True,
    ),
    "xAI": (
        "openai_chat",
        400,
        {"error": "This model's maximum prompt length is 128000 but the request contains 130000 tokens."},
        True,
    ),
    "Mistral": (
        "openai_chat",
        400,
        {
            "object": "error",
            "message": "Prompt contains 130000 tokens and 0 draft tokens, too large for model with 128,000 "
            "maximum context length",
        },
        True,
    ),
    "Groq": (
        "openai_chat",
        413,
        openai_body(
            "Please reduce the length of the messages or completion.", code="context_length_exceeded"
        ),
        False,
    ),
    "Ollama": (
        "openai_chat",
        500,
        {"error": {"message": "input length exceeds the context length", "type": "api_error"}},
        False,
    ),
    "Anthropic": (
        "anthropic",
        400,
        anthropic_body("prompt is too long: 130000 tokens > 128000 maximum"),
        True,
    ),
    "Anthropic, with the output": (
        "anthropic",
        400,
        anthropic_body(
            "input length and `max_tokens` exceed context limit: 120000 + 10000 > 128000, decrease it"
        ),
        True,
    ),
    "OpenAI's words at Anthropic's format": ("anthropic", 400, anthropic_body(OPENAI_TEXT), True),
    "Google": (
        "gemini",
        400,
        gemini_body("The input token count (130000) exceeds the maximum number of tokens allowed (128000)."),
        True,
    ),
}
WORDS = {
    "openai_chat": "maximum context length",
    "openai_responses": "exceeds the context window",
    "anthropic": "prompt is too long: 130000 tokens > 128000 maximum",
    "gemini": "The input token count (130000) exceeds the maximum number of tokens allowed (128000)",
}
UNCOUNTED_WORDS = {
    "openai_chat": "maximum context length",
    "openai_responses": "exceeds the context window",
    "anthropic": "prompt is too long: ",
    "gemini": "The input token count exceeds the maximum number of tokens allowed",
}


@pytest.mark.parametrize("client", CODECS)
@pytest.mark.parametrize("server", REFUSALS)
def test_agents_find_their_words_for_a_prompt_that_is_too_long(server: str, client: str) -> None:
    format, status, body, is_counted = REFUSALS[server]
    error = CODECS[format].parse_error(status, json.dumps(body).encode())
    assert (error.kind, error.code, error.status) == ("invalid_request", "context_length_exceeded", 400)
    rendered = json.loads(CODECS[client].render_error(error, "req_1"))["error"]
    assert (WORDS if is_counted else UNCOUNTED_WORDS)[client] in rendered["message"]
    match client:
        case "openai_chat" | "openai_responses":
            assert rendered["code"] == "context_length_exceeded"
        case "anthropic":
            assert rendered["type"] == "invalid_request_error"
        case "gemini":
            assert (rendered["code"], rendered["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("format", "status", "body"),
    [
        (
            "openai_chat",
            400,
            openai_body("max_tokens is too large: 64000. This model supports at most 4096."),
        ),
        ("openai_chat", 429, openai_body("Request too large: please reduce the length of the messages.")),
        ("anthropic", 429, anthropic_body("prompt is too long for your rate limit", "rate_limit_error")),
        ("anthropic", 413, anthropic_body("Request exceeds the maximum size", "request_too_large")),
        ("gemini", 400, gemini_body("Invalid value at 'contents'.")),
    ],
)
def test_other_refusals_are_not_taken_for_it(format: str, status: int, body: Json) -> None:
    error = CODECS[format].parse_error(status, json.dumps(body).encode())
    assert error.code != "context_length_exceeded" and error.status == status


def test_openai_clients_get_the_counts_of_other_vendors() -> None:
    body = json.dumps(anthropic_body("prompt is too long: 130000 tokens > 128000 maximum")).encode()
    error = CODECS["anthropic"].parse_error(400, body)
    message = json.loads(CODECS["openai_chat"].render_error(error, ""))["error"]["message"]
    assert message.startswith(
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000"
    )


def test_failed_response_of_codex_has_the_code_that_it_compacts_on() -> None:
    error = ApiError(kind="invalid_request", code="context_length_exceeded", message="prompt is too long")
    stream = CODECS["openai_responses"].render_stream(_client()).render_error_event(error, "req_1").decode()
    failed = json.loads(stream.partition("event: response.failed\ndata: ")[2].split("\n")[0])
    assert failed["response"]["error"]["code"] == "context_length_exceeded"


def _client() -> Any:
    fields = {"model": "m", "input": "Hi", "stream": True}
    return CODECS["openai_responses"].parse_request(fields, "m", True)
