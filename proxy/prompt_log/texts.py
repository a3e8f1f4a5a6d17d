"""Texts in the requests and responses of all formats, for the prompt log.

The field names of the formats do not conflict, so one search finds the texts of all of them. Media, settings
and vectors are not texts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, decode_any, encode, repair_json
from proxy.formats.streaming.sse import event_data

CONVERSATION_FIELDS = ("messages", "contents", "input", "prompt", "content", "requests")
"""The fields of a request that contain its prompt. The last item of a list is the newest message."""
TEXT_FIELDS = (
    "choices", "candidates", "output", "error", "message", "delta", "content", "content_block", "parts",
    "reasoning_content", "thinking", "summary", "text", "refusal", "tool_calls", "function", "functionCall",
    "functionResponse", "name", "arguments", "partial_json", "response",
)  # fmt: skip
"""Fields that contain texts, or objects with texts, in the order in which they are read."""
OBJECT_FIELDS = ("args", "input")
"""Fields with the arguments of a tool call as an object."""
RESPONSES_DELTAS = ("text.delta", "arguments.delta", "refusal.delta", "input.delta")
"""Suffixes of the types of Responses API events that contain new text. Other events repeat the same text."""


def newest_message(fields: Mapping[str, Any]) -> Any:
    """Return the newest message in a request, or all of its input if that is not a list of messages."""
    for name in CONVERSATION_FIELDS:
        if found := fields.get(name):
            is_list_of_messages = isinstance(found, list) and isinstance(found[-1], dict)
            return found[-1] if is_list_of_messages else found
    return None


def text_of(value: Any, limit: int) -> str:
    """Return the beginning of the text of a decoded message, non-streaming response or error."""
    texts, length = [], 0
    try:
        for text in find_texts(value):
            texts.append(text[: limit - length])
            length += len(texts[-1])
            if length >= limit:
                break
    except RecursionError:
        texts.append("[nested too deeply]")
    return "\n".join(texts)


def event_text(event: bytes) -> str:
    """Return the text that one event of a stream adds."""
    try:
        fields = as_dict(decode_any(repair_json(event_data(event))))
        kind = as_str(fields.get("type"))
        if not kind.startswith("response."):
            return "".join(find_texts(fields))
        if kind == "response.failed":
            return "".join(find_texts(as_dict(fields.get("response")).get("error")))
    except DECODE_ERRORS:
        return ""
    return as_str(fields.get("delta")) if kind.endswith(RESPONSES_DELTAS) else ""


def find_texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value of any format."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from find_texts(each)
        case dict():
            for name in TEXT_FIELDS:
                if name in value:
                    yield from find_texts(value[name])
            for name in OBJECT_FIELDS:
                if (arguments := value.get(name)) and isinstance(arguments, dict):
                    yield encode(arguments).decode()
