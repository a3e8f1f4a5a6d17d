"""Requests and streams that pass unchanged to a server of this format.

A request is passed on unchanged, except for the fields that the gateway must set. Only what the gateway
must know of it is decoded here. Source: platform.openai.com/docs/api-reference/chat.
"""

from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from proxy.formats.account_ids import AccountReference, IdReader, references_in
from proxy.formats.field_case import check_letters, check_nested
from proxy.formats.json_body import (
    DECODE_ERRORS,
    convert_json,
    decode_lenient,
    dict_items,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import normalize_tier, possible_modalities
from proxy.formats.metering.stream_meter import OutputMeter, event_terminator
from proxy.formats.metering.token_counts import estimate_tokens
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    unbounded_cost_fields,
)
from proxy.formats.neutral import ApiError, Request, RequestFacts, Usage, stated
from proxy.formats.openai_chat.account_ids import VOCABULARY, ChatIdReader
from proxy.formats.openai_chat.capabilities import max_tokens_field
from proxy.formats.openai_chat.encoder import StreamEncoder
from proxy.formats.openai_chat.errors import render_error_event
from proxy.formats.openai_chat.request import request_path
from proxy.formats.openai_chat.usage import parse_raw_usage, usage_from_wire
from proxy.formats.openai_chat.wire import (
    DONE,
    RequestFields,
    decode_choices,
    decode_raw_facts,
    decode_response_facts,
)
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong, event_data, keepalive_comment

CLIENT_TOOLS = ("function", "custom")
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
FIELDS = frozenset(RequestFields.__struct_fields__)
COUNTED_FIELDS = FIELDS - {"web_search_options"} | {"metadata"}
TOOL_FIELDS, STREAM_FIELDS = frozenset({"type"}), frozenset({"include_usage"})
KNOWN_FIELDS = token_bounds.field_names("""
    role content type text image_url url detail name refusal tool_calls tool_call_id id index function
    function_call arguments custom input input_audio data format file file_data filename audio
    cache_control reasoning reasoning_content
""")
AUDIO_MARKERS = (b"audio", b"video")
LINKED_PART_TYPES = ("document_url", "video_url", "audio_url")
"""Parts of compatible servers that only link to their content."""


class ChatRequest:
    """A client's request, and how it is passed on."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Read the request. Raises InvalidRequest."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, RequestFields)
        limit, choices = (
            max(request.max_completion_tokens or 0, request.max_tokens or 0) or None,
            request.n or 1,
        )
        self.unknown_fields = unknown = extract_unknown_fields(self.fields, COUNTED_FIELDS, FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        check_letters(request.stream_options or (), STREAM_FIELDS, "stream_options.")
        bound = max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown)
        # A search model searches once before it responds (platform.openai.com/docs/guides/tools-web-search).
        searches = {} if request.web_search_options is None else {"web_search": 1}
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=bound,
            max_output_tokens=limit and limit * choices,
            n=choices,
            stream=bool(request.stream),
            service_tier=normalize_tier(request.service_tier) or "auto",
            max_billable_extras=searches | possible_modalities(body, AUDIO_MARKERS, bound),
            unbounded_cost_fields=unbounded_cost_fields(unknown),
            other_model_fields=fields_allowing_other_models(unknown) + server_tool_fields(request.tools),
        )

    def path(self, model: str) -> str:
        return request_path(model, self.facts.stream)

    @property
    def client_wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.get("include_usage"))

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the body with the provider's model name, usage at the end of a stream, and the output limit.

        Usage is not requested from servers that reject the option or report usage anyway.
        """
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if self.request.stream and not self.client_wants_usage and "wants_usage" not in quirks.unsupported:
            fields["stream_options"] = {**(self.request.stream_options or {}), "include_usage": True}
        if max_tokens is not None:
            # Lower the client's limit under its own name: it would still apply beside another name.
            given = {
                name: limit
                for name in MAX_TOKENS_FIELDS
                if (limit := getattr(self.request, name)) is not None
            }
            fields |= {name: min(limit, max_tokens) for name, limit in given.items()} or {
                max_tokens_field(model, quirks): max_tokens
            }
        return replace_fields(self.body, fields) if fields else self.body

    def meter(self) -> "StreamMeter":
        return StreamMeter(withhold_usage=not self.client_wants_usage)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def references(self) -> list[AccountReference]:
        values = [self.request.messages, self.request.tools, self.unknown_fields]
        return references_in(values, VOCABULARY)

    def id_reader(self) -> IdReader | None:
        """Return a reader for audio responses; no other ids of this format can be used again."""
        return ChatIdReader() if "audio" in self.unknown_fields else None

    def encoder(self, request: Request) -> StreamEncoder:
        return StreamEncoder(request)


def max_input_tokens(request: RequestFields) -> int:
    """Return the upper bound of the input tokens at any OpenAI-compatible model."""
    special = partial(count_special_part, token_bounds.max_image_tokens(request.model))
    extras = [
        extra for extra in (request.tools, request.functions, request.response_format) if extra is not None
    ]
    messages = sum(
        text_message_tokens(message) or token_bounds.content_tokens(message, KNOWN_FIELDS, special)
        for message in request.messages
    )
    return (
        token_bounds.TOKENS_PER_REPLY
        + token_bounds.TOKENS_PER_MESSAGE * len(request.messages)
        + messages
        + sum(len(encode(extra)) for extra in extras)
    )


def server_tool_fields(tools: Any) -> tuple[str, ...]:
    """Return the field `tools`, if some tools are not the client's own.

    Servers that take such tools in this format (OpenRouter, Groq, xAI) bill them as they choose, and
    OpenRouter's advisers and subagents are other models.
    """
    return (
        ("tools",)
        if any(tool.get("type", "function") not in CLIENT_TOOLS for tool in dict_items(tools))
        else ()
    )


def text_message_tokens(message: dict[str, Any]) -> int:
    """Return the bound for a message with a role and one text, as nearly all are; 0 for any other message."""
    match message:
        case {"role": str(role), "content": str(text)} if len(message) == 2:
            return token_bounds.byte_length(role) + token_bounds.byte_length(text)
        case _:
            return 0


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the tokens of a part that does not count by its bytes, and the fields that they cover.

    Images count by the vendor's formula, references by the longest content that they may stand for.
    """
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            return token_bounds.image_tokens_for(url, image_tokens) + token_bounds.other_fields_tokens(
                image, ("url", "detail")
            ), (
                "type",
                "image_url",
            )
        case {"type": "image_url", "image_url": url}:
            return token_bounds.image_tokens_for(url, image_tokens), ("type", "image_url")
        case {"type": str(kind)} if kind in LINKED_PART_TYPES:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case {"file_id": str()}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ("file_id",)
        case {"file_data": str(link)} if link.startswith("http"):
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case {"audio": {"id": _}}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case _:
            return None


def measure(body: bytes) -> tuple[Usage | None, int]:
    """Return the usage that a response reports, or None, and the gateway's own count of output tokens.

    Usage and choices are read separately, so that a mistake in one does not hide the other. What cannot
    be read counts by its bytes.
    """
    try:
        response = decode_lenient(decode_raw_facts, body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = stated(parse_raw_usage(response.usage, response.service_tier))
    if usage is not None:
        return usage, 0
    try:
        return None, sum(map(choice_tokens, decode_choices(response.choices)))
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))


def choice_tokens(choice: dict[str, Any]) -> int:
    """Return the gateway's count for one choice. Text completions have their text in the choice itself."""
    return delta_tokens(choice.get("message") or choice.get("delta")) or value_tokens(choice.get("text"))


class StreamMeter(OutputMeter):
    """Measures a stream while it passes; `output_tokens` is the gateway's own count.

    Some servers report the usage so far in every chunk. If more output has come since the last report,
    the gateway's count applies. With `withhold_usage` the client does not get the chunk that holds
    nothing but usage: the gateway requested it, not the client.
    """

    def __init__(self, *, withhold_usage: bool) -> None:
        self.splitter = EventSplitter()
        self.withhold_usage = withhold_usage
        self.last_usage: Usage | None = None
        self.counted_before = 0
        """The gateway's count of the output that the last report covers."""
        self.finished: dict[int, bool] = {}

    @property
    def is_complete(self) -> bool:
        """True if [DONE] came or every choice has a finish reason: some servers never send [DONE]."""
        return self.saw_final_event or (bool(self.finished) and all(self.finished.values()))

    @property
    def usage(self) -> Usage | None:
        usage = self.last_usage
        if usage is None or self.output_tokens == self.counted_before:
            return usage
        return replace(usage, output=max(usage.output, self.output_tokens), estimated=True)

    def note_usage(self, usage: Usage | None) -> None:
        if usage is not None:
            self.last_usage, self.counted_before = usage, self.output_tokens

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the provider and return those for the client."""
        try:
            events = self.splitter.feed(data)
        except EventTooLong:
            self.has_unread = True
            return self.splitter.finish() + data if self.withhold_usage else data
        if not self.withhold_usage:
            for event in events:
                self.on_event(event)
            return data
        return b"".join(event for event in events if self.on_event(event))

    def finish(self) -> bytes:
        """Return what the client still gets when the provider has closed the stream.

        A last event without a blank line gets one, since clients drop it otherwise.
        """
        rest = self.splitter.finish()
        passes = bool(rest) and self.on_event(rest)
        self.check_end()
        if not passes:
            return b""
        return rest + EVENT_END if self.withhold_usage else EVENT_END

    def on_event(self, event: bytes) -> bool:
        """Count one event and return whether the client should see it."""
        if self.ids is not None:
            self.ids.read_event(event)
        data = event_data(event).strip()
        if not data.startswith(b"{"):
            self.provider_failed = self.provider_failed or event.startswith(b"event: error")
            self.saw_final_event = self.saw_final_event or data == DONE
            return True
        try:
            chunk = decode_response_facts(data)
        except DECODE_ERRORS:
            self.add_measured(data)
            return True
        self.provider_failed = self.provider_failed or bool(chunk.error)
        for choice in chunk.choices or ():
            self.add_tokens(choice_tokens(choice))
            self.note_finish(choice)
        if chunk.usage is None:
            return True
        self.note_usage(stated(usage_from_wire(chunk.usage, chunk.service_tier)))
        return bool(chunk.choices) or chunk.usage.reasoning_tokens is not None

    def note_finish(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        reason = choice.get("finish_reason") or choice.get("finish_details")
        self.finished[index] = bool(reason) or self.finished.get(index, False)

    def add_measured(self, data: bytes) -> None:
        """Count what can be read of a chunk that cannot be decoded as a whole."""
        usage, counted = measure(data)
        self.add_tokens(counted)
        self.note_usage(usage)
        with suppress(*DECODE_ERRORS):
            for choice in decode_choices(decode_lenient(decode_raw_facts, data).choices):
                self.note_finish(choice)

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        begun = b"" if self.withhold_usage else event_terminator(self.splitter)
        return begun + render_error_event(error, request_id)


def delta_tokens(delta: Any) -> int:
    """Return the gateway's count of the tokens in one delta."""
    if not isinstance(delta, dict):
        return 0
    return estimate_tokens(
        sum(text_bytes(value) for name, value in delta.items() if value and name not in ("role", "id"))
    )


def value_tokens(value: Any) -> int:
    return estimate_tokens(text_bytes(value))


def text_bytes(value: Any) -> int:
    """Return the number of bytes in all texts of a value."""
    match value:
        case str():
            return token_bounds.byte_length(value)
        case dict():
            return sum(map(text_bytes, value.values()))
        case list():
            return sum(map(text_bytes, value))
        case _:
            return 0
