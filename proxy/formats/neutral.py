"""The neutral hub: what all wire formats have in common, frozen and typed. Nothing here knows Django or another app.

Each format's codec translates between its JSON and these types, and never between two formats. What one format alone can
say is kept as `Opaque`, tagged with where it came from, so that it is never lost in silence: rendered where it came from,
refused or named as dropped elsewhere.
"""

from typing import Any, Literal

import msgspec

Origin = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]
MAX_TOKENS = 2**31 - 1
"""Largest token count that is believed, in requests and in reported usage."""


class InvalidRequest(Exception):
    """The client's body cannot be read; the message says where, in words for the client. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedFeature(InvalidRequest):
    """The request is sound, but holds content or tools that the target's format has no words for: a 400 naming the field."""


class InvalidUpstreamResponse(Exception):
    """The provider's answer cannot be read; the message says why, in words for the client."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the neutral types."""


# Content ------------------------------------------------------------------------------------------------------------------


class Citation(Frozen, frozen=True, kw_only=True):
    """A page on the web that words of an answer come from: the source that all formats can name. `quote` is what it says there;
    `start` and `end` are characters of the part's text, None where the whole of it is meant.
    """

    url: str
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None

    def span(self, length: int) -> tuple[int, int]:
        """The words meant, in a text of this length and never beyond it."""
        if self.start is None or self.end is None:
            return 0, length
        return min(max(self.start, 0), length), min(max(self.end, 0), length)


class Text(Frozen, tag="text", frozen=True, kw_only=True):
    """`cache` asks the provider to keep the prompt up to here: `5m` or `1h`."""

    text: str = ""
    cache: str | None = None
    citations: tuple[Citation, ...] = ()


class Image(Frozen, tag="image", frozen=True, kw_only=True):
    """By value (`media_type` and base64 `data`) or by `url`. `detail` is OpenAI's low, high or auto."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache: str | None = None


class File(Frozen, tag="file", frozen=True, kw_only=True):
    """A document, sound or film: by value, by `url`, or by the `file_id` that its origin knows it by."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: str | None = None
    origin: Origin | None = None


class ToolCall(Frozen, tag="tool_call", frozen=True, kw_only=True):
    """`arguments` is JSON text as the model wrote it (`{}` where it wrote nothing); of a `custom` tool it is free text.

    `signature` is the proof that some providers attach to a call and want back with the history; it opens at `origin` alone.
    """

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    signature: str | None = None
    origin: Origin | None = None
    cache: str | None = None


class ToolResult(Frozen, tag="tool_result", frozen=True, kw_only=True):
    """`name` is the called tool's where the format says it or the history tells."""

    call_id: str
    content: tuple["Text | Image | File | Opaque", ...] = ()
    name: str | None = None
    is_error: bool = False
    custom: bool = False
    cache: str | None = None


class Thinking(Frozen, tag="thinking", frozen=True, kw_only=True):
    """`signature` proves `text` to its `origin`; `redacted` is thinking that only the origin can read."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: Origin | None = None


class Refusal(Frozen, tag="refusal", frozen=True, kw_only=True):
    """The model's own words for not answering."""

    text: str = ""


class Opaque(Frozen, tag="opaque", frozen=True, kw_only=True):
    """JSON that only its `origin` understands, such as a server-side tool's call and result. `kind` names it for errors."""

    origin: Origin
    kind: str
    value: Any


Part = Text | Image | File | ToolCall | ToolResult | Thinking | Refusal | Opaque


class Message(Frozen, frozen=True, kw_only=True):
    """Tool results stand in messages of the user. `system` here is an instruction in the middle of a conversation."""

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]


# Requests -----------------------------------------------------------------------------------------------------------------


class Tool(Frozen, frozen=True, kw_only=True):
    """A tool that the client runs. `schema` is JSON Schema; a `custom` tool takes free text and has none."""

    name: str
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    cache: str | None = None


class ServerTool(Frozen, frozen=True, kw_only=True):
    """A tool that the provider itself runs: known to its origin only."""

    origin: Origin
    kind: str
    value: Any


class ToolChoice(Frozen, frozen=True, kw_only=True):
    """`names`: of `required`, the only tools that may be called (one: that very tool)."""

    mode: Literal["auto", "required", "none"] = "auto"
    names: tuple[str, ...] = ()


class ResponseFormat(Frozen, frozen=True, kw_only=True):
    """JSON as the answer; without `schema`, any JSON."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Reasoning(Frozen, frozen=True, kw_only=True):
    """How much the model thinks: by `effort` (none, minimal, low, medium, high, xhigh), by `budget` in tokens (-1: as it likes), or
    both unset: on, as the model likes. `visible`: the client wants to see (a summary of) the thoughts; where that is None, `shown_by_default` tells
    that its vendor shows them all the same.
    """

    effort: str | None = None
    budget: int | None = None
    visible: bool | None = None
    shown_by_default: bool = False


class Request(Frozen, frozen=True, kw_only=True):
    """A request in full. `unmapped_settings` are settings that only the client's format has, under the client's own names."""

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


# Answers ------------------------------------------------------------------------------------------------------------------

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "other"]


class Usage(Frozen, frozen=True, kw_only=True):
    """Tokens in disjoint buckets, whatever way a vendor nests its counts. `reasoning` is part of `output`.

    `service_tier` is the one that the provider says it served in, empty where it says nothing. `billable_extras` counts by kind what else it
    bills: calls of its own tools, and those tokens in the buckets that are not text (`input_audio`, `output_image`, ...).
    `estimated`: the gateway has counted some of it, because the provider has not stated all of it.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    service_tier: str = ""
    billable_extras: dict[str, int] = {}
    estimated: bool = False

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


def stated(usage: Usage | None) -> Usage | None:
    """Return the usage if it counts any token: no request uses none, so zeros mean that nothing is stated."""
    return usage if usage is not None and (usage.prompt or usage.output) else None


class Choice(Frozen, frozen=True, kw_only=True):
    """One answer. `stop_sequence` is the one that ended it; `logprobs` is OpenAI's list of token entries, where there is one."""

    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason = "stop"
    stop_sequence: str | None = None
    logprobs: tuple[Any, ...] = ()


class Response(Frozen, frozen=True, kw_only=True):
    """A whole answer. `usage` is None where the provider states none."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None


class ApiError(Frozen, frozen=True, kw_only=True):
    """An error. `kind` is one of unknown_model, auth, rate_limit, timeout, invalid_request, server_error, network; `code` is the
    word that the OpenAI API has for it; `status` the HTTP status that it has or would have had.
    """

    kind: str
    code: str
    message: str
    param: str | None = None
    status: int = 500


# Streams ------------------------------------------------------------------------------------------------------------------
#
# A stream is: Started; then for each part PartStarted, PartDelta ..., PartEnded, with `index` counting up from 0 in each choice
# and at most one part open in a choice at a time; then Finished once for each choice; UsageSeen whenever known, the last one
# counts. Failed may come at any point and ends it. A stream without Finished or Failed was cut.


class Started(Frozen, tag="started", frozen=True, kw_only=True):
    id: str
    model: str


class PartStarted(Frozen, tag="part_started", frozen=True, kw_only=True):
    """`part` is empty but for what is known from the start: a tool call's id and name. Image, File and Opaque come whole."""

    choice: int
    index: int
    part: Part


class PartDelta(Frozen, tag="part_delta", frozen=True, kw_only=True):
    """More text of a Text, Thinking or Refusal, or more of a tool call's arguments."""

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
    """A source of the open Text, of which all the words meant have come."""

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
    """What the gateway must know of a request to admit it, whatever its format.

    `max_input_tokens`: tokens that the input cannot pass. `max_output_tokens`: tokens that the client allowed in all its choices;
    None where it set no limit. `n`: how many answers it asked for. `service_tier`: the one that it asks for, `auto` where the
    provider chooses, empty for the standard one. `max_billable_extras`: how much of what else is billed there can be, by kind (see `Usage`).
    `unbounded_cost_fields`: fields whose cost has no bound that is known here; `other_model_fields`: those by which other models may answer too.
    """

    model: str
    max_input_tokens: int
    max_output_tokens: int | None = None
    n: int = 1
    stream: bool = False
    service_tier: str = ""
    max_billable_extras: dict[str, int] = {}
    unbounded_cost_fields: tuple[str, ...] = ()
    other_model_fields: tuple[str, ...] = ()
