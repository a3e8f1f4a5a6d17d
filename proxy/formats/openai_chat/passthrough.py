"""Pass-through of chat completions: client and provider both use OpenAI's chat format.

The gateway decodes only the fields that it must know. It changes only the fields that it must set, and
forwards all other bytes of the client unchanged. Source: platform.openai.com/docs/api-reference/chat.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from proxy.formats.account_ids import AccountReference, IdReader, references_in
from proxy.formats.field_case import check_letters, check_nested
from proxy.formats.json_body import (
    DECODE_ERRORS,
    contains_any,
    convert_json,
    decode_available_fields,
    dict_items,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import AUTO_TIER, named_tiers, parse_tier, possible_modalities
from proxy.formats.metering.cache_lifetimes import (
    billed_lifetime,
    requested_lifetimes,
    unpriced_lifetimes,
    writes_12h_cache,
)
from proxy.formats.metering.stream_meter import OutputMeter, event_terminator
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    unbounded_cost_fields,
)
from proxy.formats.neutral import NO_DEFAULTS, ApiError, Request, RequestFacts, Usage, UsageDefaults
from proxy.formats.openai_chat.account_ids import ACCOUNT_ID_FIELDS, ChatIdReader
from proxy.formats.openai_chat.capabilities import max_tokens_field, rejects_max_tokens
from proxy.formats.openai_chat.encoder import StreamEncoder
from proxy.formats.openai_chat.errors import render_error_event
from proxy.formats.openai_chat.request import request_path
from proxy.formats.openai_chat.usage import StreamUsage, measure
from proxy.formats.openai_chat.wire import DONE, RequestFields
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong, event_data, keepalive_comment

CLIENT_TOOLS = ("function", "custom")
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
REQUEST_FIELDS = frozenset(RequestFields.__struct_fields__)
BOUNDED_FIELDS = REQUEST_FIELDS - {"web_search_options"} | {"metadata"}
TOOL_FIELDS, STREAM_FIELDS = frozenset({"type"}), frozenset({"include_usage"})
MESSAGE_FIELDS = token_bounds.field_names("""
    role content type text image_url url detail name refusal tool_calls tool_call_id id index function
    function_call arguments custom input input_audio data format file file_data filename audio
    cache_control reasoning reasoning_content
""")
AUDIO_MARKERS = (b"audio", b"video")
AUDIO_PART_TYPES = ("input_audio", "audio_url")
LINKED_PART_TYPES = ("document_url", "video_url", "audio_url")
"""Part types of compatible servers that contain only the URL of their content."""


class ChatRequest:
    """A client's request for a chat completion, and what to send to the provider."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Parse the request. Raises InvalidRequest."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, RequestFields)
        limit, n = max(request.max_completion_tokens or 0, request.max_tokens or 0) or None, request.n or 1
        self.unknown_fields = unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS, REQUEST_FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        check_letters(request.stream_options or (), STREAM_FIELDS, "stream_options.")
        bound = max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown)
        tier = parse_tier(request.service_tier)
        lifetimes = requested_lifetimes(body, self.fields)
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=bound,
            max_output_tokens=limit and limit * n,
            n=n,
            stream=bool(request.stream),
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(service_tier=tier),
            usage_defaults=UsageDefaults(
                service_tier=tier,
                cache_lifetime=billed_lifetime(lifetimes, "12h"),
                modalities=audio_modalities(body, request, unknown),
            ),
            max_billable_extras=max_searches(request) | possible_modalities(body, AUDIO_MARKERS, bound),
            unbounded_cost_fields=unbounded_cost_fields(unknown) + unpriced_lifetimes(lifetimes),
            writes_12h_cache=writes_12h_cache(lifetimes),
            other_model_fields=fields_allowing_other_models(unknown) + server_tool_fields(request.tools),
        )

    def path(self, model: str) -> str:
        return request_path(model, self.facts.stream)

    @property
    def client_wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.get("include_usage"))

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the request body with the provider's model name and the output limit.

        For a stream, the body also asks the provider to report usage at the end, unless the server rejects
        this option or reports usage anyway. Tags in `metadata` are for the gateway: OpenAI accepts them only
        for responses that it stores.
        """
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if self.request.stream and not self.client_wants_usage and "wants_usage" not in quirks.unsupported:
            fields["stream_options"] = {**(self.request.stream_options or {}), "include_usage": True}
        given = self.output_limits(model, quirks)
        removed = [name for name in self.given_limits() if name not in given]
        if "metadata" in self.fields and self.fields.get("store") is not True:
            removed.append("metadata")
        if max_tokens is not None:
            # Lower the limit in the field that the client used. If the gateway used another field, the
            # client's higher limit would stay in the request and could still apply.
            given = {name: min(limit, max_tokens) for name, limit in given.items()} or {
                max_tokens_field(model, quirks): max_tokens
            }
        if removed or max_tokens is not None:
            fields |= given
        return replace_fields(self.body, fields, removed) if fields or removed else self.body

    def given_limits(self) -> dict[str, int]:
        return {
            name: limit for name in MAX_TOKENS_FIELDS if (limit := getattr(self.request, name)) is not None
        }

    def output_limits(self, model: str, quirks: Quirks) -> dict[str, int]:
        """Return the client's output limits, in a field that the model accepts."""
        given = self.given_limits()
        if "max_tokens" not in given or not rejects_max_tokens(model, quirks):
            return given
        return {"max_completion_tokens": given.get("max_completion_tokens", given["max_tokens"])}

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.facts.usage_defaults, withhold_usage=not self.client_wants_usage)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body, self.facts.usage_defaults)

    def references(self) -> list[AccountReference]:
        values = [self.request.messages, self.request.tools, self.unknown_fields]
        return references_in(values, ACCOUNT_ID_FIELDS)

    def id_reader(self) -> IdReader | None:
        """Return a reader if the request asks for audio, else None.

        In this format, later requests can refer only to the ids of audio.
        """
        return ChatIdReader() if "audio" in self.unknown_fields else None

    def encoder(self, request: Request) -> StreamEncoder:
        return StreamEncoder(request)


def rendered_facts(body: dict[str, Any], model: str) -> RequestFacts:
    """Return upper bounds for a rendered request: its input tokens, and its web searches."""
    request = convert_json(body, RequestFields)
    return RequestFacts(
        model=model, max_input_tokens=max_input_tokens(request), max_billable_extras=max_searches(request)
    )


def audio_modalities(
    body: bytes, request: RequestFields, unknown_fields: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the kinds of audio tokens that a request may use.

    If a message names audio of an earlier response by its id, this audio is input again.
    """
    if not contains_any(body, (b"audio",)):
        return ()
    messages = request.messages
    has_input = any("audio" in message or has_audio_part(message.get("content")) for message in messages)
    requested = unknown_fields.get("modalities")
    has_output = "audio" in unknown_fields or (isinstance(requested, list) and "audio" in requested)
    return ("input_audio",) * has_input + ("output_audio",) * has_output


def has_audio_part(content: Any) -> bool:
    return any(part.get("type") in AUDIO_PART_TYPES for part in dict_items(content))


def max_searches(request: RequestFields) -> dict[str, int]:
    """Return the maximum number of web searches.

    A search model searches once for each request (developers.openai.com, "Web search").
    """
    return {} if request.web_search_options is None else {"web_search": 1}


def max_input_tokens(request: RequestFields) -> int:
    """Return an upper bound of the input tokens for any OpenAI-compatible model."""
    special = partial(count_special_part, token_bounds.max_image_tokens(request.model))
    extras = [
        extra for extra in (request.tools, request.functions, request.response_format) if extra is not None
    ]
    messages = sum(
        text_message_tokens(message) or token_bounds.content_tokens(message, MESSAGE_FIELDS, special)
        for message in request.messages
    )
    return (
        token_bounds.TOKENS_PER_REPLY
        + token_bounds.TOKENS_PER_MESSAGE * len(request.messages)
        + messages
        + sum(len(encode(extra)) for extra in extras)
    )


def server_tool_fields(tools: Any) -> tuple[str, ...]:
    """Return the field `tools` if the provider runs some of the tools.

    Servers that accept such tools in this format (OpenRouter, Groq, xAI) have their own prices for them.
    OpenRouter's advisors and subagents call other models.
    """
    return (
        ("tools",)
        if any(tool.get("type", "function") not in CLIENT_TOOLS for tool in dict_items(tools))
        else ()
    )


def text_message_tokens(message: dict[str, Any]) -> int:
    """Return the token bound of a message that consists of a role and a text, the usual case.

    Return 0 for any other message.
    """
    match message:
        case {"role": str(role), "content": str(text)} if len(message) == 2:
            return token_bounds.byte_length(role) + token_bounds.byte_length(text)
        case _:
            return 0


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the token bound of an image or a reference, and the fields that the bound covers.

    An image counts as the maximum of the vendor's formula. A reference (a file id, a link or an earlier
    audio) counts as the longest content to which it can refer. The bytes of any other part are counted, so
    None is returned for it.
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


class StreamMeter(OutputMeter):
    """Meters a stream while it is relayed.

    If `withhold_usage` is true, the client does not get the chunk that contains only usage, because the
    client has not requested it.
    """

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS, *, withhold_usage: bool) -> None:
        self.usage_reader = StreamUsage(defaults)
        super().__init__(self.usage_reader)
        self.splitter = EventSplitter()
        self.withhold_usage = withhold_usage
        self.finished: dict[int, bool] = {}

    @property
    def is_complete(self) -> bool:
        """True after [DONE] or, because some servers never send it, if every choice has a finish reason."""
        return self.saw_final_event or (bool(self.finished) and all(self.finished.values()))

    def feed(self, data: bytes) -> bytes:
        """Accept bytes from the provider, and return bytes for the client."""
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
        """Return the last bytes for the client, after the provider has closed the stream.

        If the blank line after the last event is missing, it is added, because clients would ignore the event
        otherwise.
        """
        rest = self.splitter.finish()
        passes = bool(rest) and self.on_event(rest)
        self.check_end()
        if not passes:
            return b""
        return rest + EVENT_END if self.withhold_usage else EVENT_END

    def on_event(self, event: bytes) -> bool:
        """Meter one event. Return whether to relay it to the client."""
        if self.id_reader is not None:
            self.id_reader.read_event(event)
        data = event_data(event).strip()
        if not data.startswith(b"{"):
            self.provider_failed = self.provider_failed or event.startswith(b"event: error")
            self.saw_final_event = self.saw_final_event or data == DONE
            return True
        try:
            chunk = decode_available_fields(data)
        except DECODE_ERRORS:
            return True
        self.provider_failed = self.provider_failed or bool(chunk.get("error"))
        self.usage_reader.read(chunk)
        choices = dict_items(chunk.get("choices"))
        for choice in choices:
            self.note_finish(choice)
        return bool(choices) or not holds_only_usage(chunk)

    def note_finish(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        reason = choice.get("finish_reason") or choice.get("finish_details")
        self.finished[index] = bool(reason) or self.finished.get(index, False)

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        begun = b"" if self.withhold_usage else event_terminator(self.splitter)
        return begun + render_error_event(error, request_id)


def holds_only_usage(chunk: dict[str, Any]) -> bool:
    """Return whether a chunk without choices contains only the usage that was requested.

    Together sends a similar chunk even if usage was not requested. The usage in that chunk has
    `reasoning_tokens`.
    """
    usage = chunk.get("usage")
    return isinstance(usage, dict) and usage.get("reasoning_tokens") is None
