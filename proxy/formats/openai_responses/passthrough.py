"""Pass-through of OpenAI Responses (platform.openai.com/docs/api-reference/responses).

The gateway decodes only the fields that it must know. It changes only the fields that it must set, and
forwards all other bytes of the client unchanged.
"""

from contextlib import suppress
from functools import partial
from typing import Any

from proxy.formats import neutral
from proxy.formats.account_ids import AccountReference, IdReader, references_in
from proxy.formats.field_case import check_nested
from proxy.formats.json_body import (
    DECODE_ERRORS,
    convert_json,
    dict_items,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import AUTO_TIER, named_tiers, parse_tier
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
from proxy.formats.openai_responses.account_ids import (
    ACCOUNT_ID_FIELDS,
    ResponsesIdReader,
    item_references,
    stored_references,
)
from proxy.formats.openai_responses.encoder import StreamEncoder
from proxy.formats.openai_responses.errors import render_error_event
from proxy.formats.openai_responses.image_generation import has_unbounded_images
from proxy.formats.openai_responses.request import PATH
from proxy.formats.openai_responses.server_tools import max_billable_extras
from proxy.formats.openai_responses.tools import offered_tools
from proxy.formats.openai_responses.usage import StreamUsage, measure
from proxy.formats.openai_responses.wire import RequestFields
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import event_data, event_name, keepalive_comment

REQUEST_FIELDS = frozenset(RequestFields.__struct_fields__)
BOUNDED_FIELDS = REQUEST_FIELDS - {"prompt"} | {"metadata"}
TOOL_FIELDS = frozenset(
    {"type", "model", "size", "quality", "partial_images", "svg", "container", "environment", "memory_limit"}
)
MESSAGE_FIELDS = token_bounds.field_names("""
    role content type text image_url detail call_id name arguments output id status summary
    encrypted_content input file_data filename refusal phase
""")
FINAL_EVENT_TYPES = (
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
    "error",
)
MAX_COMPACTION_TOKENS = 128_000
"""Maximum output of a compaction.

It is the highest output limit of any model (developers.openai.com/api/docs/models), because a request to
compact has no field that limits the output.
"""
STORED_FIELDS = ("previous_response_id", "conversation", "prompt")
IMAGE_PART_TYPES = ("input_image", "computer_screenshot")


class ResponsesRequest:
    """A client's request for a response, and what to send to the provider."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Parse the request. Raises InvalidRequest."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, RequestFields)
        self.unknown_fields = unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS, REQUEST_FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        self.tools = tools = offered_tools(request.tools, request.input)
        # A stored prompt can add tools that the request does not list, so its cost has no known bound.
        lifetimes = requested_lifetimes(body, self.fields)
        unbounded = unbounded_cost_fields(unknown, "prompt") + unpriced_lifetimes(lifetimes)
        if has_unbounded_images(tools):
            unbounded += ("tools",)
        tier, compacts = parse_tier(request.service_tier), is_compaction(request.input)
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown),
            max_output_tokens=None if compacts else request.max_output_tokens,
            fixed_max_output=MAX_COMPACTION_TOKENS if compacts else None,
            stream=bool(request.stream),
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(service_tier=tier),
            usage_defaults=UsageDefaults(
                service_tier=tier,
                cache_lifetime=billed_lifetime(lifetimes, "12h"),
                tools=tools,
            ),
            max_billable_extras=max_billable_extras(tools, request.max_tool_calls),
            unbounded_cost_fields=unbounded,
            writes_12h_cache=continues_stored(request) or writes_12h_cache(lifetimes),
            other_model_fields=fields_allowing_other_models(unknown) + model_calling_tools(tools),
            is_background=bool(request.background),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the request body with the provider's model name and the output limit."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if max_tokens is not None:
            fields["max_output_tokens"] = max_tokens
        return replace_fields(self.body, fields) if fields else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body, self.facts.usage_defaults)

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.facts.usage_defaults)

    def encoder(self, request: neutral.Request) -> StreamEncoder:
        return StreamEncoder(request)

    def references(self) -> list[AccountReference]:
        request = self.request
        stored = {name: value for name in STORED_FIELDS if (value := getattr(request, name))}
        found = stored_references(stored) if stored else []
        found += item_references(request.input)
        values = [request.input, request.instructions, request.tools, stored, self.unknown_fields]
        return found + references_in(values, ACCOUNT_ID_FIELDS)

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that the response contains.

        A later request may name a response although it is not stored: to compare how the two responses use
        the prompt cache, or to retrieve the response while it runs in the background.
        """
        may_be_named = "prompt_cache_options" in self.unknown_fields or self.facts.is_background
        return ResponsesIdReader(can_be_named=self.request.store is not False or may_be_named)


def rendered_facts(body: dict[str, Any], model: str) -> RequestFacts:
    """Return upper bounds for a rendered request: its input tokens, and its calls of server tools."""
    request = convert_json(body, RequestFields)
    extras = max_billable_extras(request.tools, request.max_tool_calls)
    return RequestFacts(model=model, max_input_tokens=max_input_tokens(request), max_billable_extras=extras)


def max_input_tokens(request: RequestFields) -> int:
    """Return an upper bound of the input tokens for any model."""
    special = partial(count_special_part, token_bounds.max_image_tokens(request.model))
    items = [request.input] if isinstance(request.input, str) else request.input or []
    messages = sum(
        token_bounds.TOKENS_PER_MESSAGE + token_bounds.content_tokens(item, MESSAGE_FIELDS, special)
        for item in items
    )
    if request.instructions:
        messages += token_bounds.TOKENS_PER_MESSAGE + token_bounds.content_tokens(
            request.instructions, MESSAGE_FIELDS, special
        )
    if continues_stored(request):
        messages += token_bounds.REFERENCED_CONTENT_TOKENS
    return (
        token_bounds.TOKENS_PER_REPLY
        + messages
        + sum(len(encode(extra)) for extra in (request.tools, request.text) if extra is not None)
    )


def is_compaction(items: Any) -> bool:
    """Return whether the request asks for a compaction, whose length no field limits.

    Source: the SDK `openai`, `CompactionTrigger`.
    """
    return any(item.get("type") == "compaction_trigger" for item in dict_items(items))


def continues_stored(request: RequestFields) -> bool:
    """Return whether the provider adds stored content.

    The request does not show the length of this content, nor whether it is cached.
    """
    return bool(request.previous_response_id or request.conversation or request.prompt)


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the token bound of an image or a reference, and the fields that the bound covers.

    An image counts as the maximum of OpenAI's formula. A reference counts as the longest content to which it
    can refer. The bytes of any other part are counted, so None is returned for it.
    """
    match part:
        case {"type": str(kind), "image_url": str(url)} if kind in IMAGE_PART_TYPES:
            return token_bounds.image_tokens_for(url, image_tokens), ("type", "image_url", "detail")
        case {"type": str(kind), "file_id": str()} if kind in IMAGE_PART_TYPES:
            return image_tokens, ("type", "file_id", "detail")
        case {"type": "item_reference"} | {"file_id": str()} | {"file_url": str()}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case _:
            return None


class StreamMeter(EventMeter):
    """Meters a stream while it is relayed."""

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.usage_reader = StreamUsage(defaults)
        super().__init__(self.usage_reader)

    def on_event(self, event: bytes) -> None:
        """Meter one event."""
        kind = event_name(event).decode(errors="replace")
        with suppress(*DECODE_ERRORS):
            kind = self.usage_reader.read_event(event_data(event), kind)
        self.saw_final_event = self.saw_final_event or kind in FINAL_EVENT_TYPES
        self.provider_failed = self.provider_failed or kind in ("error", "response.failed")

    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        return render_error_event(failure, request_id)
