"""Neutral types: what all wire formats have in common, frozen and typed.

Each codec converts between its JSON and these types, never between two formats. What only one format can
express is kept as `Opaque` with its origin, so that it is never lost silently: it is rendered for its
origin. For others, it becomes text, is named as dropped, or is rejected. Nothing here knows Django or
another app.
"""

from typing import Any, Literal

import msgspec

from proxy.formats.tools.settings import SharedTool, VendorTool

Origin = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]
MAX_TOKENS = 2**31 - 1
"""Largest token count that is accepted, in requests and in reported usage."""


class InvalidRequest(Exception):
    """The client's body is not valid. The message is for the client; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedFeature(InvalidRequest):
    """The request is valid, but the target's format does not support its content or tools: a 400."""


class InvalidUpstreamResponse(Exception):
    """The provider's response cannot be read. The message is for the client."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the neutral types."""


# Content ------------------------------------------------------------------------------------------


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


# Requests -----------------------------------------------------------------------------------------


class Tool(Frozen, frozen=True, kw_only=True):
    """A tool that the client runs. `schema` is JSON Schema; a `custom` tool takes free text and has none.

    `vendor` is its declaration, if the client's vendor has a type or a group of its own for it.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    cache: str | None = None
    vendor: VendorTool | None = None


class ServerTool(Frozen, frozen=True, kw_only=True):
    """A tool that the provider runs. Only its origin understands `value`; `kind` is its type.

    `shared` is what it means to the vendors that run the same tool, `unshared` the names of its settings that
    only its origin has. Other formats reject a tool that names data of the caller (`is_caller_data`).
    """

    origin: Origin
    kind: str
    value: Any
    shared: SharedTool | None = None
    unshared: tuple[str, ...] = ()
    is_caller_data: bool = False


class ToolChoice(Frozen, frozen=True, kw_only=True):
    """The choice among tools.

    If the mode is required, `names` and the server tools of these kinds are the only ones that may be called.
    """

    mode: Literal["auto", "required", "none"] = "auto"
    names: tuple[str, ...] = ()
    server_kinds: tuple[str, ...] = ()


class ResponseFormat(Frozen, frozen=True, kw_only=True):
    """A response in JSON; without `schema`, any JSON."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Reasoning(Frozen, frozen=True, kw_only=True):
    """Setting for how much the model thinks.

    `effort` is none, minimal, low, medium, high or xhigh; `budget` is in tokens (-1: the model decides).
    If both are unset, reasoning is on and the model decides. `visible` is whether the client wants to see
    (a summary of) the thinking. If it is None, `shown_by_default` is whether the client's vendor shows it
    anyway.
    """

    effort: str | None = None
    budget: int | None = None
    visible: bool | None = None
    shown_by_default: bool = False


class Request(Frozen, frozen=True, kw_only=True):
    """A complete request.

    `unmapped_settings` are settings that only the client's format has, by the client's names.
    """

    model: str
    messages: tuple[Message, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool | ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int = 1
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    logprobs: int | None = None
    user: str | None = None
    stream: bool = False
    wants_usage: bool = True
    unmapped_settings: dict[str, Any] = {}


# Answers ------------------------------------------------------------------------------------------

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "other"]


class Usage(Frozen, frozen=True, kw_only=True):
    """Tokens in disjoint buckets, however a vendor nests its counts; `reasoning` is part of `output`.

    `service_tier` is the tier that the provider reports, or empty. `billable_extras` counts by kind what else
    the provider bills: calls of its own tools, and tokens in the buckets that are not text (`input_audio`,
    `output_image`, ...). `estimated` is whether the gateway counted some of it, because the provider did not
    report all of it.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_12h: int = 0
    output: int = 0
    reasoning: int = 0
    service_tier: str = ""
    billable_extras: dict[str, int] = {}
    estimated: bool = False

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def cache_write(self) -> int:
        """Tokens written to a cache, for however long."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_write_12h


def reported_or_none(usage: Usage | None) -> Usage | None:
    """Return the usage if it counts any token: every request uses some, so zeros are not a report."""
    return usage if usage is not None and (usage.prompt or usage.output) else None


class Choice(Frozen, frozen=True, kw_only=True):
    """A choice of a response.

    `stop_sequence` is the one that ended it. `logprobs` is OpenAI's list of token entries, if there is one.
    """

    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason = "stop"
    stop_sequence: str | None = None
    logprobs: tuple[Any, ...] = ()


class Response(Frozen, frozen=True, kw_only=True):
    """A non-streaming response; `usage` is None if the provider reports none."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None


class ApiError(Frozen, frozen=True, kw_only=True):
    """An error.

    `retry_after_s` is the time after which the provider accepts the request, if its body states one.
    `kind` is unknown_model, auth, rate_limit, timeout, invalid_request, server_error or network. `code`
    is the OpenAI API's name for it, `status` the HTTP status that it has or would have.
    """

    kind: str
    code: str
    message: str
    param: str | None = None
    status: int = 500
    retry_after_s: float | None = None


# Streams ------------------------------------------------------------------------------------------
# A stream begins with Started. Each part has PartStarted, any number of PartDelta, and PartEnded; `index`
# counts up from 0 in each choice, and at most one part of a choice is open at a time. Finished comes once for
# each choice. UsageReported may come several times, and the last one counts. Failed may come at any point and
# ends the stream. A stream without Finished or Failed was cut.


class Started(Frozen, tag="started", frozen=True, kw_only=True):
    id: str
    model: str


class PartStarted(Frozen, tag="part_started", frozen=True, kw_only=True):
    """The start of a part, which holds what is known from the start: a tool call's id and name.

    Image, File and Opaque are complete.
    """

    choice: int
    index: int
    part: Part


class PartDelta(Frozen, tag="part_delta", frozen=True, kw_only=True):
    """More text of a Text, Thinking or Refusal, or more arguments of a tool call."""

    choice: int
    index: int
    text: str
    logprobs: tuple[Any, ...] = ()


class PartSigned(Frozen, tag="part_signed", frozen=True, kw_only=True):
    """The signature of the open Thinking or ToolCall."""

    choice: int
    index: int
    signature: str


class PartCited(Frozen, tag="part_cited", frozen=True, kw_only=True):
    """A citation of the open Text; all cited text has come."""

    choice: int
    index: int
    citation: Citation


class PartEnded(Frozen, tag="part_ended", frozen=True, kw_only=True):
    choice: int
    index: int


class UsageReported(Frozen, tag="usage", frozen=True, kw_only=True):
    usage: Usage


class Finished(Frozen, tag="finished", frozen=True, kw_only=True):
    choice: int
    finish_reason: FinishReason
    stop_sequence: str | None = None


class Failed(Frozen, tag="failed", frozen=True, kw_only=True):
    error: ApiError


Event = (
    Started | PartStarted | PartDelta | PartSigned | PartCited | PartEnded | UsageReported | Finished | Failed
)


class RequestFacts(Frozen, frozen=True, kw_only=True):
    """The facts of a request that the gateway needs to admit it, in any format.

    `max_input_tokens` is an upper bound. `max_output_tokens` is the client's limit for all choices
    together, or None. `min_output_tokens` is the lowest limit of one choice that the provider accepts.
    `n` is the number of choices requested. `service_tier` is the requested tier: `auto` if the provider
    chooses, empty for the standard tier. `max_billable_extras` limits by kind what
    else is billed (see `Usage`). `unbounded_cost_fields` are fields whose cost has no known bound,
    `other_model_fields` those by which other models may answer too. `writes_12h_cache`: the request may ask
    to keep its prompt in OpenAI's cache for 12 hours, which costs more. `fixed_max_output` is the most that a
    response can have if no field of the request limits it. `is_background`: the provider goes on with the
    response after the request has ended.
    """

    model: str
    max_input_tokens: int
    max_output_tokens: int | None = None
    min_output_tokens: int = 1
    n: int = 1
    stream: bool = False
    service_tier: str = ""
    max_billable_extras: dict[str, int] = {}
    unbounded_cost_fields: tuple[str, ...] = ()
    other_model_fields: tuple[str, ...] = ()
    writes_12h_cache: bool = False
    fixed_max_output: int | None = None
    is_background: bool = False
