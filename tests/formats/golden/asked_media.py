"""Requests with pictures and files, by value, by address and by the id that one vendor knows, and their marks for a prompt cache."""

from typing import Any

from tests.formats.golden.words import (
    CHAT_TOOL,
    CLAUDE_TOOL,
    GEMINI_TOOL,
    PAPER,
    PIXEL,
    RESPONSES_TOOL,
    USER,
    Bodies,
    assistant,
    chat,
    claude,
    google,
    responses,
    turn,
    user,
)

LOOK: dict[str, Any] = {"type": "text", "text": "Look"}
INPUT_LOOK: dict[str, Any] = {"type": "input_text", "text": "Look"}
SUN: dict[str, Any] = {"type": "text", "text": "Sun"}
PNG = {"type": "base64", "media_type": "image/png", "data": PIXEL}
DATA_URL = f"data:image/png;base64,{PIXEL}"
PAGE = "https://example.org/a.pdf"
PHOTO = "https://example.org/a.png"
MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
LONG_MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}

MEDIA: dict[str, Bodies] = {
    "picture": {
        "openai_chat": chat(user(LOOK, {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}})),
        "openai_responses": responses(user(INPUT_LOOK, {"type": "input_image", "image_url": DATA_URL, "detail": "low"})),
        "anthropic": claude(user(LOOK, {"type": "image", "source": PNG})),
        "gemini": google(turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}})),
    },
    "picture in the alphabet for URLs": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(turn("user", {"inlineData": {"mimeType": "image/png", "data": PIXEL.replace("+", "-").replace("/", "_")}})),
    },
    "picture by address": {
        "openai_chat": chat(user(LOOK, {"type": "image_url", "image_url": {"url": PHOTO}})),
        "openai_responses": responses(user(INPUT_LOOK, {"type": "input_image", "image_url": PHOTO, "detail": "auto"})),
        "anthropic": claude(user(LOOK, {"type": "image", "source": {"type": "url", "url": PHOTO}})),
        "gemini": google(turn("user", {"text": "Look"}, {"fileData": {"mimeType": "image/png", "fileUri": PHOTO}})),
    },
    "document": {
        "openai_chat": chat(
            user(LOOK, {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PAPER}"}})
        ),
        "openai_responses": responses(
            user(INPUT_LOOK, {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PAPER}"})
        ),
        "anthropic": claude(
            user(
                LOOK,
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PAPER}, "title": "a.pdf"},
            )
        ),
        "gemini": google(turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "application/pdf", "data": PAPER}})),
    },
    "document by address": {
        "openai_chat": None,
        "openai_responses": responses(user(INPUT_LOOK, {"type": "input_file", "file_url": PAGE})),
        "anthropic": claude(user(LOOK, {"type": "document", "source": {"type": "url", "url": PAGE}})),
        "gemini": google(turn("user", {"text": "Look"}, {"fileData": {"mimeType": "application/pdf", "fileUri": PAGE}})),
    },
    "document stored with a vendor": {
        "openai_chat": chat(user(LOOK, {"type": "file", "file": {"file_id": "file-1"}})),
        "openai_responses": responses(user(INPUT_LOOK, {"type": "input_file", "file_id": "file-1"})),
        "anthropic": claude(user(LOOK, {"type": "document", "source": {"type": "file", "file_id": "file_1"}})),
        "gemini": google(turn("user", {"text": "Look"}, {"fileData": {"mimeType": "application/pdf", "fileUri": "files/1"}})),
    },
    "text as a document": {
        "openai_chat": None,
        "openai_responses": responses(
            user(INPUT_LOOK, {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="})
        ),
        "anthropic": claude(
            user(LOOK, {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}, "title": "a.txt"})
        ),
        "gemini": google(turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "text/plain", "data": "SGk="}})),
    },
    "sound": {
        "openai_chat": chat(user(LOOK, {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})),
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(turn("user", {"text": "Look"}, {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}})),
    },
    "picture in a result": {
        "openai_chat": None,
        "openai_responses": responses(
            USER,
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Paris"}'},
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [{"type": "input_text", "text": "Sun"}, {"type": "input_image", "image_url": DATA_URL, "detail": "auto"}],
            },
            tools=[RESPONSES_TOOL],
        ),
        "anthropic": claude(
            USER,
            assistant({"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}),
            user(
                {
                    "type": "tool_result",
                    "tool_use_id": "call_1",
                    "content": [{"type": "text", "text": "Sun"}, {"type": "image", "source": PNG}],
                }
            ),
            tools=[CLAUDE_TOOL],
        ),
        "gemini": google(
            turn("user", {"text": "Hi"}),
            turn("model", {"functionCall": {"id": "call_1", "name": "get_weather", "args": {"city": "Paris"}}}),
            turn(
                "user",
                {
                    "functionResponse": {
                        "id": "call_1",
                        "name": "get_weather",
                        "response": {"result": "Sun"},
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
                    }
                },
            ),
            tools=[GEMINI_TOOL],
        ),
    },
    "marks for a cache": {
        "openai_chat": chat(
            {"role": "system", "content": [{"type": "text", "text": "Be terse.", **LONG_MARK}]},
            user({**LOOK, **MARK}, {"type": "image_url", "image_url": {"url": DATA_URL}, **MARK}),
            tools=[{**CHAT_TOOL, **LONG_MARK}],
        ),
        "openai_responses": None,
        "anthropic": claude(
            user({**LOOK, **MARK}, {"type": "image", "source": PNG, **MARK}),
            system=[{"type": "text", "text": "Be terse.", **LONG_MARK}],
            tools=[{**CLAUDE_TOOL, **LONG_MARK}],
        ),
        "gemini": None,
    },
    "a prefix stored with a vendor": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(cachedContent="cachedContents/1"),
    },
}
