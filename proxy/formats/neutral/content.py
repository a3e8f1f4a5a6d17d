"""Messages and their parts."""

from typing import Any, Literal

import msgspec

Origin = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of the neutral types."""


class Citation(Frozen, frozen=True, kw_only=True):
    """The source of a text: a web page, which all formats can express.

    `quote` is the cited text of the page. `start` and `end` are positions of characters in the part's text.
    If both are None, the citation is for the whole text.
    """

    url: str
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None

    def span(self, length: int) -> tuple[int, int]:
        """Return the start and the end of the cited characters in a text of this length."""
        if self.start is None or self.end is None:
            return 0, length
        return min(max(self.start, 0), length), min(max(self.end, 0), length)


class Text(Frozen, tag="text", frozen=True, kw_only=True):
    """A text. `cache` is the lifetime, `5m` or `1h`, of a prompt cache breakpoint after the text."""

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
    """A document, audio or video: as data, by `url`, or by a `file_id` of its origin."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: str | None = None
    origin: Origin | None = None


class ToolCall(Frozen, tag="tool_call", frozen=True, kw_only=True):
    """A call of a client's tool.

    `arguments` is the JSON text that the model has written. For a `custom` tool, it is free text. `signature`
    is set by providers that require it when the call is sent back; only the provider's format, the `origin`,
    can use it.
    """

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    signature: str | None = None
    origin: Origin | None = None
    cache: str | None = None


class ToolResult(Frozen, tag="tool_result", frozen=True, kw_only=True):
    """The result of a call. `name` is the tool's name, if the format or the history contains it."""

    call_id: str
    content: tuple["Text | Image | File | Opaque", ...] = ()
    name: str | None = None
    is_error: bool = False
    custom: bool = False
    cache: str | None = None


class Thinking(Frozen, tag="thinking", frozen=True, kw_only=True):
    """Thinking of a model. `signature` authenticates `text` at its `origin`.

    `redacted` is encrypted thinking that only the origin can decrypt.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: Origin | None = None


class Refusal(Frozen, tag="refusal", frozen=True, kw_only=True):
    """A model's explanation that it refuses to answer."""

    text: str = ""


class Opaque(Frozen, tag="opaque", frozen=True, kw_only=True):
    """JSON that only its `origin` understands, such as the call and the result of a server tool.

    `kind` is its type. For other formats, `text` replaces the part. A part without text is dropped and
    reported. If `is_caller_data` is true, the request is rejected, because the response would be wrong
    without the part.
    """

    origin: Origin
    kind: str
    value: Any
    text: str = ""
    is_caller_data: bool = False


Part = Text | Image | File | ToolCall | ToolResult | Thinking | Refusal | Opaque


class Message(Frozen, frozen=True, kw_only=True):
    """A message.

    User messages also contain tool results. A `system` message is an instruction within a conversation.
    """

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]
