"""Pass-through of Anthropic Messages (platform.claude.com/docs/en/api/messages).

The gateway decodes only the fields that it must know. It changes only the fields that it must set, and
forwards all other bytes of the client unchanged.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from proxy.formats.account_ids import AccountReference, IdReader, references_in
from proxy.formats.anthropic.account_ids import ACCOUNT_ID_FIELDS, DIAGNOSTICS, MessagesIdReader
from proxy.formats.anthropic.capabilities import SERVER_TOOL_TOKENS, SERVER_TOOL_TYPES, TOOL_PROMPT_TOKENS
from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.errors import render_error_event
from proxy.formats.anthropic.request import PATH
from proxy.formats.anthropic.toolsets import TOOLSETS
from proxy.formats.anthropic.usage import US_REGION, StreamUsage, measure, normalize_region
from proxy.formats.anthropic.vendor_tools import CLIENT_TOOLS
from proxy.formats.anthropic.wire import (
    RequestFields,
    StreamEventFields,
    decode_event_fields,
)
from proxy.formats.field_case import check_nested
from proxy.formats.json_body import (
    DECODE_ERRORS,
    as_dict,
    as_str,
    contains_any,
    convert_json,
    decode_lenient,
    dict_items,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import (
    AUTO_TIER,
    DEFAULT_MAX_CALLS,
    UNREADABLE_TIER,
    named_tiers,
    parse_tier,
    tool_call_limit,
)
from proxy.formats.metering.cache_lifetimes import (
    billed_lifetime,
    requested_lifetimes,
    unpriced_lifetimes,
    writes_12h_cache,
)
from proxy.formats.metering.stream_meter import EventMeter
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    model_calling_tools,
    unbounded_cost_fields,
)
from proxy.formats.neutral import NO_DEFAULTS, ApiError, RequestFacts, Usage, UsageDefaults
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import at_event_boundary, event_data, event_name
from proxy.formats.tools.offers import VERSION

SOURCE_FIELDS = ("type", "media_type", "data", "url", "file_id")
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
REQUEST_FIELDS = frozenset(RequestFields.__struct_fields__)
BOUNDED_FIELDS = REQUEST_FIELDS - {"mcp_servers"} | {"metadata"}
TOOL_FIELDS, THREAD_FIELDS = frozenset({"type", "max_uses"}), frozenset({"type"})
MESSAGE_FIELDS = token_bounds.field_names("""
    role content type text source media_type data url title context thinking signature id name tool_use_id
    is_error cache_control ttl
""")
DECODED_EVENT_MARKERS = (b"_delta", b'"usage"', b'"error"', b'"server_tool_use"', b"message_stop")
"""Markers of the events that the meter decodes."""
KNOWN_CAPACITY = ("", "standard_only")
"""Values of `service_tier` other than `auto` (platform.claude.com/docs/en/api/service-tiers)."""
MCP_TOOLSET = "mcp_toolset"
STOP = b"message_stop"


class MessagesRequest:
    """A client's request in this format."""

    stream_content_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, RequestFields)
        self.unknown_fields = unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS, REQUEST_FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        check_nested(request.thread, THREAD_FIELDS, "thread.")
        tools = offered_tools(request)
        speed, region = requested_speed(request.speed), requested_region(request.inference_geo)
        lifetimes = requested_lifetimes(body, self.fields)
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown),
            max_output_tokens=request.max_tokens,
            stream=bool(request.stream),
            # A workspace can be restricted to the US, which costs more. The value `global` overrides this
            # restriction.
            service_tier=(speed or AUTO_TIER) + ("_global" if request.inference_geo == "global" else ""),
            requested_tiers=named_tiers(
                service_tier=capacity_tier(request.service_tier), speed=speed, inference_geo=region
            ),
            usage_defaults=UsageDefaults(
                service_tier="_".join(filter(None, (speed, region))),
                speed=speed,
                region=region,
                cache_lifetime=billed_lifetime(lifetimes, "1h"),
            ),
            max_billable_extras=max_billable_extras(request),
            unbounded_cost_fields=unbounded_cost_fields(unknown) + unpriced_lifetimes(lifetimes),
            writes_12h_cache=writes_12h_cache(lifetimes),
            other_model_fields=fields_allowing_other_models(unknown) + model_calling_tools(tools),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, max_tokens: int | None, _quirks: Quirks) -> bytes:
        """Return the body for the provider.

        It has the provider's name for the model, and `max_tokens` if a limit is given. Tags in `metadata` are
        for the gateway: Anthropic accepts only `user_id` there.
        """
        fields: dict[str, Any] = {}
        metadata = self.fields.get("metadata")
        if isinstance(metadata, dict) and not metadata.keys() <= {"user_id"}:
            fields["metadata"] = {"user_id": metadata.get("user_id")}
        if model != self.request.model:
            fields["model"] = model
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        return replace_fields(self.body, fields) if fields else self.body

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        return PING if at_event_boundary(sent_tail) else b""

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.facts.usage_defaults)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body, self.facts.usage_defaults)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request)

    def references(self) -> list[AccountReference]:
        request = self.request
        values = [request.messages, request.system, request.tools, request.thread, self.unknown_fields]
        return references_in(values, ACCOUNT_ID_FIELDS)

    def id_reader(self) -> IdReader | None:
        keeps_messages = self.request.thread is not None or DIAGNOSTICS in self.unknown_fields
        return MessagesIdReader(keeps_messages=keeps_messages)


def rendered_facts(body: dict[str, Any], model: str) -> RequestFacts:
    """Return upper bounds for a rendered request: its input tokens, and its calls of server tools."""
    request = convert_json(body, RequestFields)
    extras = max_billable_extras(request)
    return RequestFacts(model=model, max_input_tokens=max_input_tokens(request), max_billable_extras=extras)


def max_input_tokens(request: RequestFields) -> int:
    """Return an upper bound of the input tokens. It excludes content that server tools fetch."""
    special = partial(count_special_part, token_bounds.max_image_tokens(request.model))
    messages = sum(
        token_bounds.TOKENS_PER_MESSAGE + token_bounds.content_tokens(message, MESSAGE_FIELDS, special)
        for message in request.messages
    )
    system = token_bounds.content_tokens(request.system or "", MESSAGE_FIELDS, special)
    tools = request.tools if isinstance(request.tools, list) else []
    typed_tools = sum(isinstance(tool, dict) and tool.get("type") not in (None, "custom") for tool in tools)
    encoded_settings = [setting for setting in (request.tools, request.output_config) if setting is not None]
    thread_tokens = (
        token_bounds.REFERENCED_CONTENT_TOKENS
        if isinstance(request.thread, dict) and request.thread.get("type") != "create"
        else 0
    )
    added_tokens = (
        thread_tokens
        + TOOL_PROMPT_TOKENS * bool(tools)
        + SERVER_TOOL_TOKENS * typed_tools
        + sum(len(encode(setting)) for setting in encoded_settings)
    )
    return token_bounds.TOKENS_PER_REPLY + messages + system + added_tokens


def capacity_tier(value: Any) -> str:
    """Return the tier for the value of `service_tier`.

    In this API, the field only says whether the request may use capacity that was paid in advance.
    """
    tier = parse_tier(value)
    return tier if tier in KNOWN_CAPACITY else UNREADABLE_TIER


def requested_speed(value: Any) -> str:
    """Return the service tier for a speed. The result is empty for the standard speed."""
    match parse_tier(value):
        case "" | "standard":
            return ""
        case "fast":
            return "fast"
        case _:
            return UNREADABLE_TIER


def requested_region(value: Any) -> str:
    """Return the service tier with the price of the region that a request asks for.

    The result is empty if the request allows any region
    (platform.claude.com/docs/en/manage-claude/data-residency).
    """
    match normalize_region(value):
        case "" | "global":
            return ""
        case "us":
            return US_REGION
        case _:
            return UNREADABLE_TIER


def max_billable_extras(request: RequestFields) -> dict[str, int]:
    """Return the maximum number of calls of each of Anthropic's server tools.

    The limit is the tool's `max_uses` (docs, "Web search tool", "Max uses").
    """
    limits = {"mcp": DEFAULT_MAX_CALLS} if request.mcp_servers else {}
    for tool in offered_tools(request):
        if kind := server_kind(as_str(tool.get("type"))):
            limits[kind] = limits.get(kind, 0) + tool_call_limit(tool.get("max_uses"))
    return limits


def offered_tools(request: RequestFields) -> list[dict[str, Any]]:
    """Return the declarations of tools in a request and in its messages (SDK, `tool_addition`)."""
    changes = [as_dict(block.get("tool")) for block in tool_changes(request.messages)]
    return [*dict_items(request.tools), *dict_items([change.get("definition") for change in changes])]


def tool_changes(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if message.get("role") == "system":
            yield from dict_items(message.get("content"))


def server_kind(tool_type: str) -> str:
    """Return the kind of a tool that Anthropic runs, by its type; empty for a tool of the client.

    An unknown type is its own kind.
    """
    kind = VERSION.sub("", tool_type)
    if kind in ("", "custom", MCP_TOOLSET, *CLIENT_TOOLS) or kind.removesuffix("_toolset") in TOOLSETS:
        return ""
    return next((known for known in SERVER_TOOL_TYPES if kind.startswith(known)), kind)


def count_special_part(image_tokens: int, block: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the token bound of an image or a reference, and the fields that the bound covers.

    An image has the maximum of the vendor's formula. A reference has the tokens of the longest content to
    which it can refer. For any other block, return None.
    """
    match block:
        case {"type": "image", "source": dict(source)}:
            return image_tokens + token_bounds.other_fields_tokens(source, SOURCE_FIELDS), ("type", "source")
        case {"type": "document", "source": {"type": "url" | "file"} as source}:
            return token_bounds.REFERENCED_CONTENT_TOKENS + token_bounds.other_fields_tokens(
                source, SOURCE_FIELDS
            ), ("source",)
        case {"file_id": str()}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case _:
            return None


class StreamMeter(EventMeter):
    """Meters a stream while it is relayed."""

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.usage_reader = StreamUsage(defaults)
        super().__init__(self.usage_reader)

    def on_event(self, event: bytes) -> None:
        """Meter one event.

        Events without text and usage are not decoded. A text may contain a marker too, so the decoded fields
        decide.
        """
        name = event_name(event)
        self.saw_final_event = self.saw_final_event or name == STOP
        self.provider_failed = self.provider_failed or name == b"error"
        if not contains_any(event, DECODED_EVENT_MARKERS):
            return
        try:
            self.on_event_fields(decode_lenient(decode_event_fields, event_data(event)))
        except DECODE_ERRORS:
            return

    def on_event_fields(self, event: StreamEventFields) -> None:
        self.saw_final_event = self.saw_final_event or event.type == STOP.decode()
        self.provider_failed = self.provider_failed or event.type == "error" or event.error is not None
        delta, block = as_dict(event.delta), as_dict(event.content_block)
        text = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
        self.usage_reader.add_text(as_str(text))
        self.usage_reader.start_block(as_str(block.get("type")), as_str(block.get("name")))
        usage = as_dict(event.message).get("usage") or event.usage
        self.usage_reader.report(usage, is_last=event.type == "message_delta")

    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        return render_error_event(failure, request_id)
