"""Requests and streams that pass unchanged between a client and a provider of this format.

A request is passed on unchanged, except for the fields that the gateway must set. Only what the gateway
must know of it is decoded here.
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
from proxy.formats.metering.billable import AUTO_TIER, named_tiers, requested_tier
from proxy.formats.metering.cache_lifetimes import unpriced_lifetimes, writes_12h_cache
from proxy.formats.metering.stream_meter import EventMeter
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    model_calling_tools,
    unbounded_cost_fields,
)
from proxy.formats.neutral import ApiError, RequestFacts, Usage
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
"""Output of a compaction at most: of all models, none can write more (developers.openai.com/api/docs/models).

A request to compact has no field that limits it.
"""
STORED_FIELDS = ("previous_response_id", "conversation", "prompt")
IMAGE_PART_TYPES = ("input_image", "computer_screenshot")


class ResponsesRequest:
    """A client's request, and how it is passed on."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Read the request. Raises InvalidRequest."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, RequestFields)
        self.unknown_fields = unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS, REQUEST_FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        self.tools = tools = offered_tools(request.tools, request.input)
        # A stored prompt may bring tools of its own.
        unbounded = unbounded_cost_fields(unknown, "prompt") + unpriced_lifetimes(body, self.fields)
        if has_unbounded_images(tools):
            unbounded += ("tools",)
        tier, compacts = requested_tier(request.service_tier), is_compaction(request.input)
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown),
            max_output_tokens=None if compacts else request.max_output_tokens,
            fixed_max_output=MAX_COMPACTION_TOKENS if compacts else None,
            stream=bool(request.stream),
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(service_tier=tier),
            assumed_tier=tier,
            max_billable_extras=max_billable_extras(tools, request.max_tool_calls),
            unbounded_cost_fields=unbounded,
            writes_12h_cache=continues_stored(request) or writes_12h_cache(body, self.fields),
            other_model_fields=fields_allowing_other_models(unknown) + model_calling_tools(tools),
            is_background=bool(request.background),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the body with the provider's model name and the output limit."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if max_tokens is not None:
            fields["max_output_tokens"] = max_tokens
        return replace_fields(self.body, fields) if fields else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.tools)

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
        """Return a reader.

        Even a response that is not stored can be named: to compare the use of the cache, and to retrieve it
        while it runs in the background.
        """
        may_be_named = "prompt_cache_options" in self.unknown_fields or self.facts.is_background
        return ResponsesIdReader(can_be_named=self.request.store is not False or may_be_named)


def rendered_facts(body: dict[str, Any], model: str) -> RequestFacts:
    """Return the bounds of what a rendered request can use: input tokens, and calls of OpenAI's own tools."""
    request = convert_json(body, RequestFields)
    extras = max_billable_extras(request.tools, request.max_tool_calls)
    return RequestFacts(model=model, max_input_tokens=max_input_tokens(request), max_billable_extras=extras)


def max_input_tokens(request: RequestFields) -> int:
    """Return the upper bound of the input tokens at any model."""
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
    """Return whether the response is a summary, whose length no field limits (SDK, `CompactionTrigger`)."""
    return any(item.get("type") == "compaction_trigger" for item in dict_items(items))


def continues_stored(request: RequestFields) -> bool:
    """Return whether the provider adds stored content, whose length and cache the request does not show."""
    return bool(request.previous_response_id or request.conversation or request.prompt)


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the tokens of a part that does not count by its bytes, and the fields that they cover.

    Images count by the vendor's formula, references by the longest content that they may stand for.
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
    """Measures a stream while it passes; `tools` are those of the request."""

    def __init__(self, tools: Any = None) -> None:
        self.usage_reader = StreamUsage(tools)
        super().__init__(self.usage_reader)

    def on_event(self, event: bytes) -> None:
        """Count one event."""
        kind = event_name(event).decode(errors="replace")
        with suppress(*DECODE_ERRORS):
            kind = self.usage_reader.read_event(event_data(event), kind)
        self.saw_final_event = self.saw_final_event or kind in FINAL_EVENT_TYPES
        self.provider_failed = self.provider_failed or kind in ("error", "response.failed")

    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        return render_error_event(failure, request_id)
