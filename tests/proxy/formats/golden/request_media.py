"""Requests with images and files, as data, by URL or by id, and with prompt cache breakpoints."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    ANTHROPIC_TOOL,
    CHAT_TOOL,
    GEMINI_TOOL,
    PDF_DOCUMENT,
    PNG_PIXEL,
    RESPONSES_TOOL,
    USER,
    Bodies,
    anthropic_request,
    assistant,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)

PROMPT: dict[str, Any] = {"type": "text", "text": "Look"}
INPUT_PROMPT: dict[str, Any] = {"type": "input_text", "text": "Look"}
IMAGE_DATA: dict[str, Any] = {"type": "text", "text": "Sun"}
PNG = {"type": "base64", "media_type": "image/png", "data": PNG_PIXEL}
DATA_URL = f"data:image/png;base64,{PNG_PIXEL}"
DOCUMENT_URL = "https://example.org/a.pdf"
PHOTO_URL = "https://example.org/a.png"
CACHE_BREAKPOINT: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
LONG_CACHE_BREAKPOINT: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}

MEDIA: dict[str, Bodies] = {
    "image": {
        "openai_chat": openai_chat_request(
            user(PROMPT, {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}})
        ),
        "openai_responses": openai_responses_request(
            user(INPUT_PROMPT, {"type": "input_image", "image_url": DATA_URL, "detail": "low"})
        ),
        "anthropic": anthropic_request(user(PROMPT, {"type": "image", "source": PNG})),
        "gemini": gemini_request(
            turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PNG_PIXEL}})
        ),
    },
    "image in URL-safe base64": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(
            turn(
                "user",
                {
                    "inlineData": {
                        "mimeType": "image/png",
                        "data": PNG_PIXEL.replace("+", "-").replace("/", "_"),
                    }
                },
            )
        ),
    },
    "image by URL": {
        "openai_chat": openai_chat_request(
            user(PROMPT, {"type": "image_url", "image_url": {"url": PHOTO_URL}})
        ),
        "openai_responses": openai_responses_request(
            user(INPUT_PROMPT, {"type": "input_image", "image_url": PHOTO_URL, "detail": "auto"})
        ),
        "anthropic": anthropic_request(
            user(PROMPT, {"type": "image", "source": {"type": "url", "url": PHOTO_URL}})
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Look"}, {"fileData": {"mimeType": "image/png", "fileUri": PHOTO_URL}})
        ),
    },
    "document": {
        "openai_chat": openai_chat_request(
            user(
                PROMPT,
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF_DOCUMENT}"},
                },
            )
        ),
        "openai_responses": openai_responses_request(
            user(
                INPUT_PROMPT,
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": f"data:application/pdf;base64,{PDF_DOCUMENT}",
                },
            )
        ),
        "anthropic": anthropic_request(
            user(
                PROMPT,
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF_DOCUMENT},
                    "title": "a.pdf",
                },
            )
        ),
        "gemini": gemini_request(
            turn(
                "user",
                {"text": "Look"},
                {"inlineData": {"mimeType": "application/pdf", "data": PDF_DOCUMENT}},
            )
        ),
    },
    "document by URL": {
        "openai_chat": None,
        "openai_responses": openai_responses_request(
            user(INPUT_PROMPT, {"type": "input_file", "file_url": DOCUMENT_URL})
        ),
        "anthropic": anthropic_request(
            user(PROMPT, {"type": "document", "source": {"type": "url", "url": DOCUMENT_URL}})
        ),
        "gemini": gemini_request(
            turn(
                "user",
                {"text": "Look"},
                {"fileData": {"mimeType": "application/pdf", "fileUri": DOCUMENT_URL}},
            )
        ),
    },
    "document by file id": {
        "openai_chat": openai_chat_request(user(PROMPT, {"type": "file", "file": {"file_id": "file-1"}})),
        "openai_responses": openai_responses_request(
            user(INPUT_PROMPT, {"type": "input_file", "file_id": "file-1"})
        ),
        "anthropic": anthropic_request(
            user(PROMPT, {"type": "document", "source": {"type": "file", "file_id": "file_1"}})
        ),
        "gemini": gemini_request(
            turn(
                "user", {"text": "Look"}, {"fileData": {"mimeType": "application/pdf", "fileUri": "files/1"}}
            )
        ),
    },
    "text document": {
        "openai_chat": None,
        "openai_responses": openai_responses_request(
            user(
                INPUT_PROMPT,
                {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="},
            )
        ),
        "anthropic": anthropic_request(
            user(
                PROMPT,
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Hi"},
                    "title": "a.txt",
                },
            )
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "text/plain", "data": "SGk="}})
        ),
    },
    "audio input": {
        "openai_chat": openai_chat_request(
            user(PROMPT, {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})
        ),
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(
            turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}})
        ),
    },
    "image in tool result": {
        "openai_chat": None,
        "openai_responses": openai_responses_request(
            USER,
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": '{"city":"Paris"}',
            },
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [
                    {"type": "input_text", "text": "Sun"},
                    {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
                ],
            },
            tools=[RESPONSES_TOOL],
        ),
        "anthropic": anthropic_request(
            USER,
            assistant(
                {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
            ),
            user(
                {
                    "type": "tool_result",
                    "tool_use_id": "call_1",
                    "content": [{"type": "text", "text": "Sun"}, {"type": "image", "source": PNG}],
                }
            ),
            tools=[ANTHROPIC_TOOL],
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}),
            turn(
                "model", {"functionCall": {"id": "call_1", "name": "get_weather", "args": {"city": "Paris"}}}
            ),
            turn(
                "user",
                {
                    "functionResponse": {
                        "id": "call_1",
                        "name": "get_weather",
                        "response": {"result": "Sun"},
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG_PIXEL}}],
                    }
                },
            ),
            tools=[GEMINI_TOOL],
        ),
    },
    "prompt cache breakpoints": {
        "openai_chat": openai_chat_request(
            {"role": "system", "content": [{"type": "text", "text": "Be terse.", **LONG_CACHE_BREAKPOINT}]},
            user(
                {**PROMPT, **CACHE_BREAKPOINT},
                {"type": "image_url", "image_url": {"url": DATA_URL}, **CACHE_BREAKPOINT},
            ),
            tools=[{**CHAT_TOOL, **LONG_CACHE_BREAKPOINT}],
        ),
        "openai_responses": None,
        "anthropic": anthropic_request(
            user({**PROMPT, **CACHE_BREAKPOINT}, {"type": "image", "source": PNG, **CACHE_BREAKPOINT}),
            system=[{"type": "text", "text": "Be terse.", **LONG_CACHE_BREAKPOINT}],
            tools=[{**ANTHROPIC_TOOL, **LONG_CACHE_BREAKPOINT}],
        ),
        "gemini": None,
    },
    "cached content reference": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(cachedContent="cachedContents/1"),
    },
}
