"""Messages and their parts."""

from typing import Any, Literal

import msgspec

Origin = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the neutral types."""


class Citation(Frozen, frozen=True, kw_only=True):
    """Source of a text: a web page, which all formats can name.

    `quote` is the cited text of the page. `start` and `end` are characters of the part's text; None means the
    whole text.
    """

    url: str
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None

    def span(self, length: int) -> tuple[int, int]:
        """Return the cited characters of a text of this length, never beyond its end."""
        if self.start is None or self.end is None:
            return 0, length
        return min(max(self.start, 0), length), min(max(self.end, 0), length)


class Text(Frozen, tag="text", frozen=True, kw_only=True):
    """A text. `cache` asks the provider to cache the prompt up to here: `5m` or `1h`."""

    text: str = ""
    cache: str | None = None
    citations: tuple[Citation, ...] = ()


class Image(Frozen, tag="image", frozen=True, kw_only=True):
    """An image as data (`media_type` and base64 `data`) or by URL; `detail` is OpenAI's low, high or auto."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache: str | None = None


class File(Frozen, tag="file", frozen=True, kw_only=True):
    """A document, audio or video: as data, by `url`, or by the `file_id` that its origin knows."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: str | None = None
    origin: Origin | None = None


class ToolCall(Frozen, tag="tool_call", frozen=True, kw_only=True):
    """A call of a client's tool.

    `arguments` is JSON text as the model wrote it (`{}` if it wrote nothing); for a `custom` tool it is free
    text. `signature` is attached by some providers, which want it back with the history; only `origin` can
    verify it.
    """

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    signature: str | None = None
    origin: Origin | None = None
    cache: str | None = None


class ToolResult(Frozen, tag="tool_result", frozen=True, kw_only=True):
    """The result of a call; `name` is the tool's name, if the format or the history tells it."""

    call_id: str
    content: tuple["Text | Image | File | Opaque", ...] = ()
    name: str | None = None
    is_error: bool = False
    custom: bool = False
    cache: str | None = None


class Thinking(Frozen, tag="thinking", frozen=True, kw_only=True):
    """Thinking of a model. `signature` authenticates `text` to its `origin`.

    `redacted` is encrypted thinking that only the origin can read.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: Origin | None = None


class Refusal(Frozen, tag="refusal", frozen=True, kw_only=True):
    """A model's explanation that it refuses to answer."""

    text: str = ""


class Opaque(Frozen, tag="opaque", frozen=True, kw_only=True):
    """JSON that only its `origin` understands, such as a server tool's call and result.

    `kind` is its type. Other formats get `text` in its place, or leave it out if there is none. They reject
    `is_caller_data`: the answer would be wrong without it.
    """

    origin: Origin
    kind: str
    value: Any
    text: str = ""
    is_caller_data: bool = False


Part = Text | Image | File | ToolCall | ToolResult | Thinking | Refusal | Opaque


class Message(Frozen, frozen=True, kw_only=True):
    """A message. Tool results stand in user messages; `system` is an instruction within a conversation."""

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]
