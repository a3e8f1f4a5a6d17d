"""Adaptation of messages to their destination: roles, media, fields and prompt cache breakpoints."""

import base64
import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from proxy.formats.constraints.constraint import Constraints, changed
from proxy.formats.constraints.settings import Adapted
from proxy.formats.media import MEDIA_TYPE_ALIASES, URL_SAFE_BASE64, detect_media_type
from proxy.formats.neutral import (
    File,
    Image,
    Message,
    Origin,
    Part,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.formats.reasoning import UNKNOWN_THINKING

CONTINUE_TEXT = "Continue from where you stopped."
"""The text of a user message that is added if the last message may not be from the assistant."""
BRIDGE_TEXT = "OK."
"""Text of an assistant message that is added between tool results and a user message."""
THOUGHT_FIELD = "reasoning_content"
SIGNATURE_FIELDS = frozenset({"reasoning_signature", "reasoning_details"})
CALL_SIGNATURE_FIELD = "extra_content"
WHITE_SPACE = re.compile(r"\s+")
UNUSUAL_BASE64 = re.compile(r"[-_\s]")


# Fields -------------------------------------------------------------------------------------------


def drop_message_fields(request: Request, constraints: Constraints) -> Adapted:
    """Drop thinking and signatures from the history if the destination has no field for them."""
    names = constraints.names("message_fields")
    if "refusal" in names:
        request = with_parts(request, refusal_as_text)
    if THOUGHT_FIELD in names:
        request = with_parts(request, without_thought)
    elif names & SIGNATURE_FIELDS:
        request = with_parts(request, with_unsigned_thought)
    return (with_parts(request, with_unsigned_call) if CALL_SIGNATURE_FIELD in names else request), []


def refusal_as_text(part: Part) -> Part:
    return Text(text=part.text) if isinstance(part, Refusal) else part


def return_thinking(request: Request, constraints: Constraints) -> Adapted:
    """Send the text of earlier thinking, of any vendor, to models that require earlier thinking."""
    is_off = request.reasoning is not None and request.reasoning.effort == "none"
    requiring = constraints.first("earlier_thinking")
    if requiring is None or is_off or THOUGHT_FIELD in constraints.names("message_fields"):
        return request, []
    (format,) = requiring.formats
    return replace(
        request, messages=tuple(with_thinking(message, format) for message in request.messages)
    ), []


def with_thinking(message: Message, format: Origin) -> Message:
    """Return an assistant message whose thinking has `format` as its origin.

    If the message has no thinking, a placeholder is added. Other messages stay unchanged.
    """
    if message.role != "assistant" or all(isinstance(part, Thinking) for part in message.parts):
        return message
    parts = [as_own_thinking(part, format) if isinstance(part, Thinking) else part for part in message.parts]
    if not any(isinstance(part, Thinking) and part.text for part in parts):
        parts.insert(0, Thinking(text=UNKNOWN_THINKING, origin=format))
    return replace(message, parts=tuple(parts))


def as_own_thinking(part: Thinking, format: Origin) -> Thinking:
    return part if part.origin == format else Thinking(text=part.text, origin=format)


def without_thought(part: Part) -> Part | None:
    return None if isinstance(part, Thinking) else part


def with_unsigned_thought(part: Part) -> Part | None:
    if not isinstance(part, Thinking):
        return part
    return replace(part, signature=None) if part.text and part.redacted is None else None


def with_unsigned_call(part: Part) -> Part:
    return replace(part, signature=None) if isinstance(part, ToolCall) else part


def with_parts(request: Request, change: Callable[[Part], Part | None]) -> Request:
    """Return the request with changed parts. A part is left out if `change` returns None for it."""
    return replace(request, messages=tuple(change_parts(message, change) for message in request.messages))


def change_parts(message: Message, change: Callable[[Part], Part | None]) -> Message:
    parts = tuple(part for part in map(change, message.parts) if part is not None)
    return message if parts == message.parts else replace(message, parts=parts)


# Roles --------------------------------------------------------------------------------------------


def end_with_user(request: Request, constraints: Constraints) -> Adapted:
    """Add a user message that asks to continue, if the destination rejects a final assistant message."""
    if constraints.first("last_role") is None or not request.messages:
        return request, []
    last = request.messages[-1]
    if last.role != "assistant" or any(isinstance(part, ToolCall) for part in last.parts):
        return request, []
    asked = Message(role="user", parts=(Text(text=CONTINUE_TEXT),))
    return replace(request, messages=(*request.messages, asked)), [changed("messages", "rewritten")]


def separate_results(request: Request, constraints: Constraints) -> Adapted:
    """Put an assistant message between tool results and the user's text after them."""
    if constraints.first("user_after_tool") is None:
        return request, []
    messages: list[Message] = []
    for message in request.messages:
        results, others = split_results(message)
        follows = bool(messages) and is_only_results(messages[-1])
        if results:
            messages.append(replace(message, parts=results))
        if others or not results:
            if (results or follows) and message.role == "user":
                messages.append(Message(role="assistant", parts=(Text(text=BRIDGE_TEXT),)))
            messages.append(replace(message, parts=others))
    if len(messages) == len(request.messages):
        return request, []
    return replace(request, messages=tuple(messages)), [changed("messages", "rewritten")]


def split_results(message: Message) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Split a message into its tool results and its other parts. Media in results move to the other parts."""
    results = tuple(part for part in message.parts if isinstance(part, ToolResult))
    media = tuple(item for part in results for item in part.content if isinstance(item, Image | File))
    plain = tuple(
        replace(part, content=tuple(item for item in part.content if not isinstance(item, Image | File)))
        for part in results
    )
    return plain, (*media, *(part for part in message.parts if not isinstance(part, ToolResult)))


def is_only_results(message: Message) -> bool:
    return bool(message.parts) and all(isinstance(part, ToolResult) for part in message.parts)


# Media --------------------------------------------------------------------------------------------


def fix_media(request: Request, constraints: Constraints) -> Adapted:
    """Correct the media types of images and files, and encode their data in standard base64."""
    if not constraints.first("media_type") and not constraints.first("base64"):
        return request, []
    return with_parts(request, fix_part), []


def fix_part(part: Part) -> Part:
    match part:
        case Image() | File():
            return fix_medium(part)
        case ToolResult() if any(isinstance(item, Image | File) for item in part.content):
            content: list[Any] = [fix_part(item) for item in part.content]
            return replace(part, content=tuple(content))
        case _:
            return part


def fix_medium(part: Image | File) -> Image | File:
    """Return an image or a file with a correct media type.

    If the bytes of an image show another type than the stated one, the type of the bytes is used.
    """
    stated = part.media_type and MEDIA_TYPE_ALIASES.get(part.media_type.lower(), part.media_type)
    if part.data is None:
        return part if stated == part.media_type else replace(part, media_type=stated)
    data = plain_base64(part.data)
    found = detect_media_type(data)
    is_image = isinstance(part, Image) or (stated or "").startswith("image/")
    if found and (stated is None or (is_image and found.startswith("image/"))):
        stated = found
    return (
        part
        if (stated, data) == (part.media_type, part.data)
        else replace(part, media_type=stated, data=data)
    )


def plain_base64(data: str) -> str:
    """Return base64 in the standard alphabet, without white space and with padding."""
    if len(data) % 4 == 0 and not UNUSUAL_BASE64.search(data):
        return data
    plain = WHITE_SPACE.sub("", data).translate(URL_SAFE_BASE64).rstrip("=")
    plain += "=" * (-len(plain) % 4)
    return plain if plain == data or is_decodable(plain) else data


def is_decodable(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except ValueError:
        return False


# Marks for the prompt cache -----------------------------------------------------------------------


def limit_cache_breakpoints(request: Request, constraints: Constraints) -> Adapted:
    """Keep the last prompt cache breakpoints, as many as the destination accepts.

    A later breakpoint includes the content of the earlier ones.
    """
    row = constraints.first("cache_breakpoints")
    if row is None or row.maximum is None:
        return request, []
    surplus = count_marks(request) - int(row.maximum)
    return (request, []) if surplus <= 0 else (without_first_marks(request, surplus), ["cache"])


def count_marks(request: Request) -> int:
    parts = [part for message in request.messages for part in message.parts]
    inner = [item for part in parts if isinstance(part, ToolResult) for item in part.content]
    marked = (*request.tools, *request.system, *parts, *inner)
    return sum(bool(getattr(item, "cache", None)) for item in marked)


def without_first_marks(request: Request, surplus: int) -> Request:
    """Return the request without its first breakpoints, in the order in which providers read them."""
    left = [surplus]
    tools = tuple(tool if isinstance(tool, ServerTool) else unmark(tool, left) for tool in request.tools)
    system = tuple(unmark(text, left) for text in request.system)
    return with_parts(replace(request, tools=tools, system=system), lambda part: unmark_part(part, left))


def unmark_part(part: Part, left: list[int]) -> Part:
    if isinstance(part, ToolResult):
        content: list[Any] = [unmark(item, left) for item in part.content]
        part = replace(part, content=tuple(content))
    unmarked: Part = unmark(part, left)
    return unmarked


def unmark(item: Any, left: list[int]) -> Any:
    if left[0] > 0 and getattr(item, "cache", None):
        left[0] -= 1
        return replace(item, cache=None)
    return item
