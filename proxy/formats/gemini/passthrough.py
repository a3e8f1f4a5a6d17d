"""Pass-through of generateContent and streamGenerateContent (ai.google.dev/api/generate-content).

The gateway decodes only the fields that it must know. It changes only the fields that it must set, and
forwards all other bytes of the client unchanged.
"""

from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from proxy.formats.account_ids import AccountReference, WithoutAccountIds, references_in
from proxy.formats.field_case import check_letters, check_nested
from proxy.formats.gemini import modalities
from proxy.formats.gemini.account_ids import ACCOUNT_ID_FIELDS
from proxy.formats.gemini.capabilities import (
    MAX_MODEL_LENGTH,
    MAX_N,
    SERVER_TOOL_TOKENS,
    TOOL_FIELDS,
    TOOL_KINDS,
)
from proxy.formats.gemini.encoder import ArrayFraming, EventFraming, StreamEncoder
from proxy.formats.gemini.errors import render_error
from proxy.formats.gemini.repeated_results import without_repeated_results
from proxy.formats.gemini.request import JSON_TYPE, request_path
from proxy.formats.gemini.usage import StreamUsage, measure, part_tokens
from proxy.formats.gemini.wire import (
    NULL,
    GenerationFields,
    RequestFields,
    ResponseFacts,
    decode_response_facts,
    reject_both_spellings,
    to_camel_case,
)
from proxy.formats.json_body import (
    DECODE_ERRORS,
    as_dict,
    convert_json,
    decode_fields,
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
    named_tiers,
    parse_tier,
    possible_modalities,
)
from proxy.formats.metering.stream_meter import OutputMeter
from proxy.formats.metering.unknown_fields import extract_unknown_fields
from proxy.formats.neutral import NO_DEFAULTS, ApiError, InvalidRequest, RequestFacts, Usage, UsageDefaults
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, at_event_boundary, event_data

EVENT_STREAM_TYPE = "text/event-stream"
EVENT_END = b"\r\n\r\n"
KEEPALIVE_JSON = b"\r\n"
"""White space between the elements of a JSON array."""
KEEPALIVE_EVENT = (
    b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}' + EVENT_END
)
"""A chunk with an empty text, which all of Google's SDKs accept.

The Python SDK fails on comments, and the older JavaScript SDK fails on a blank line.
"""
GENERATION_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(GenerationFields))
BOUNDED_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(RequestFields)) | {
    "model",
    "stream",
}
STREAM_FIELD = "stream"
GATEWAY_FIELDS = {"metadata", STREAM_FIELD}
"""Fields for the gateway: tags, and whether to stream."""
ROUTING_FIELDS = ("routingConfig", "modelSelectionConfig", "modelConfig")
MESSAGE_FIELDS = token_bounds.field_names("""
    role parts text thought thoughtSignature thought_signature inlineData inline_data mimeType mime_type data
    fileData file_data fileUri file_uri functionCall function_call functionResponse function_response name id
    executableCode executable_code language code codeExecutionResult code_execution_result outcome output
""")
EMPTY_RESPONSE = ResponseFacts()


class GenerateContentRequest(WithoutAccountIds):
    """A client's request in this format.

    The URL names the model and says whether to stream. If `as_array` is set, the client expects its stream as
    one JSON array. Google sends this form if the URL does not have `alt=sse`. The field `stream` of other
    APIs also requests a stream of events. Google does not know it, so it is never sent.
    """

    def __init__(self, body: bytes, model: str = "", stream: bool = False, *, as_array: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        self.body, self.as_array = body, as_array
        given = parse_object(body)
        self.gateway_fields = given.keys() & GATEWAY_FIELDS
        self.fields, body_streams = without_stream(given)
        self.request = request = convert_json(self.fields, RequestFields, strict=False)
        self.settings = settings = request.settings or request.snake_settings or GenerationFields()
        limit, n = settings.max_output_tokens or settings.snake_max_output_tokens, settings.n
        reject_both_spellings(request)
        reject_both_spellings(settings)
        check_letters_of(self.fields, request)
        validate_request(request, model, n)
        self.unknown_fields = extract_unknown_fields(self.fields, BOUNDED_FIELDS)
        bound = max_input_tokens(request, settings, model)
        bound += token_bounds.unknown_fields_tokens(self.unknown_fields)
        tier = parse_tier(request.service_tier or request.snake_service_tier)
        self.facts = RequestFacts(
            model=model,
            max_input_tokens=bound,
            max_output_tokens=limit and limit * n,
            n=n,
            stream=stream or body_streams,
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(serviceTier=tier),
            usage_defaults=UsageDefaults(
                service_tier=tier, modalities=modalities.possible_modalities(body, self.fields)
            ),
            other_model_fields=routing_fields(self.fields),
            max_billable_extras=max_billable_extras(request.tools)
            | possible_modalities(body, modalities.AUDIO_MARKERS, bound),
        )

    @property
    def stream_content_type(self) -> str:
        return JSON_TYPE if self.as_array else EVENT_STREAM_TYPE

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        if self.as_array:
            return KEEPALIVE_JSON
        return KEEPALIVE_EVENT if at_event_boundary(sent_tail) else b""

    def path(self, model: str) -> str:
        return request_path(model, self.facts.stream)

    def upstream_body(self, model: str, max_tokens: int | None, _quirks: Quirks) -> bytes:
        """Return the body with the output limit `max_tokens`, if given, and without repeated results.

        The body does not need the name of the model, because the URL contains it. Google does not have the
        fields of the gateway.
        """
        fields = self.contents_without_repeats()
        if max_tokens is not None:
            fields |= self.settings_with_limit(max_tokens)
        removed = self.gateway_fields
        return replace_fields(self.body, fields, removed) if fields or removed else self.body

    def contents_without_repeats(self) -> dict[str, Any]:
        """Return the field `contents` if results must be removed from it, otherwise an empty dict."""
        contents = self.request.messages
        parts = [dict_items(content.get("parts")) for content in contents]
        kept = list(without_repeated_results(parts))
        if kept == parts:
            return {}
        changed = zip(contents, parts, kept, strict=True)
        return {
            "contents": [
                {**content, "parts": rest} if rest != given else content
                for content, given, rest in changed
                if rest or not given
            ]
        }

    def settings_with_limit(self, max_tokens: int) -> dict[str, Any]:
        """Return the generation settings with an output limit, in the field name that the client uses."""
        is_snake = self.request.settings is None and self.request.snake_settings is not None
        name = "generation_config" if is_snake else "generationConfig"
        raw_settings = decode_fields(self.body).get(name, NULL)
        settings: dict[str, Any] = {} if raw_settings == NULL else dict(decode_fields(raw_settings))
        settings.pop("max_output_tokens", None)
        return {name: settings | {"maxOutputTokens": max_tokens}}

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.facts.usage_defaults, as_array=self.as_array)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body, self.facts.usage_defaults)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request, as_array=self.as_array)

    def references(self) -> list[AccountReference]:
        request = self.request
        cached = {"cachedContent": request.cached, "cached_content": request.snake_cached}
        values = [request.messages, request.system, request.snake_system, request.tools, cached]
        return references_in([*values, self.unknown_fields], ACCOUNT_ID_FIELDS)


def without_stream(fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the fields without `stream`, and whether it asks for a stream. Raises InvalidRequest."""
    if STREAM_FIELD not in fields:
        return fields, False
    streams = fields[STREAM_FIELD] or False
    if not isinstance(streams, bool):
        raise InvalidRequest("The field stream must be true or false.", STREAM_FIELD)
    return {name: value for name, value in fields.items() if name != STREAM_FIELD}, streams


def check_letters_of(fields: dict[str, Any], request: RequestFields) -> None:
    """Raise InvalidRequest if the name of a setting or a tool differs from a known name only in its case."""
    check_nested(request.tools, TOOL_FIELDS, "tools.")
    if request.settings is not None or request.snake_settings is not None:
        name = "generation_config" if request.settings is None else "generationConfig"
        check_letters(fields[name], GENERATION_FIELDS, f"{name}.")


def routing_fields(fields: dict[str, Any]) -> tuple[str, ...]:
    """Return the generation settings through which another model may respond (SDK `google-genai`)."""
    settings = [as_dict(fields.get(name)) for name in ("generationConfig", "generation_config")]
    return tuple(
        name
        for given in settings
        for name, value in given.items()
        if value and to_camel_case(name) in ROUTING_FIELDS
    )


def validate_request(request: RequestFields, model: str, n: int) -> None:
    if not 1 <= len(model) <= MAX_MODEL_LENGTH:
        raise InvalidRequest("The URL does not name a model.", "model")
    if not request.messages:
        raise InvalidRequest("The field contents is empty.", "contents")
    if not 1 <= n <= MAX_N:
        raise InvalidRequest(
            f"The field candidateCount must be from 1 to {MAX_N}.", "generationConfig.candidateCount"
        )


def rendered_facts(body: dict[str, Any], model: str) -> RequestFacts:
    """Return upper bounds for a rendered request: its input tokens, and its calls of Google's own tools."""
    request = convert_json(body, RequestFields)
    return RequestFacts(
        model=model,
        max_input_tokens=max_input_tokens(request, request.settings or GenerationFields(), model),
        max_billable_extras=max_billable_extras(request.tools),
    )


def max_input_tokens(request: RequestFields, settings: GenerationFields, model: str) -> int:
    """Return an upper bound of the input tokens. It does not include what Google's own tools fetch."""
    image = token_bounds.max_image_tokens(model)
    messages = sum(
        token_bounds.TOKENS_PER_MESSAGE + prompt_tokens(message, image) for message in request.messages
    )
    system = prompt_tokens(request.system or request.snake_system, image)
    cached = token_bounds.REFERENCED_CONTENT_TOKENS if request.cached or request.snake_cached else 0
    return (
        token_bounds.TOKENS_PER_REPLY
        + messages
        + system
        + cached
        + tool_tokens(request.tools)
        + sum(len(encode(s)) for s in settings.schemas)
    )


def tool_tokens(tools: Any) -> int:
    return 0 if tools is None else len(encode(tools)) + SERVER_TOOL_TOKENS * len(server_tool_names(tools))


def server_tool_names(tools: Any) -> list[str]:
    """Return the names of Google's own tools in a request."""
    names = [
        to_camel_case(name)
        for tool in (tools if isinstance(tools, list) else [tools])
        if isinstance(tool, dict)
        for name in tool
    ]
    return [name for name in names if name != "functionDeclarations"]


def max_billable_extras(tools: Any) -> dict[str, int]:
    """Return how often Google may call each tool.

    A request cannot limit this, so it is an assumed maximum.
    """
    return dict.fromkeys((TOOL_KINDS.get(name, name) for name in server_tool_names(tools)), DEFAULT_MAX_CALLS)


def prompt_tokens(value: Any, image_tokens: int) -> int:
    """Return an upper bound of the tokens of contents or of a part."""
    return token_bounds.content_tokens(value or "", MESSAGE_FIELDS, partial(count_special_part, image_tokens))


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Return the tokens of an image or of referenced content, and the fields that they include.

    An inline image counts as the maximum for an image of this model. Referenced content counts as the maximum
    for any content. Return None for other parts.
    """
    match part:
        case {"mimeType": str(mime), "data": str()} | {"mime_type": str(mime), "data": str()} if (
            mime.startswith("image/")
        ):
            return image_tokens, ("mimeType", "mime_type", "data")
        case {"fileUri": _} | {"file_uri": _}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case _:
            return None


class StreamMeter(OutputMeter):
    """Meters a stream while it passes. It removes comments, because Google's SDK fails on them."""

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS, *, as_array: bool = False) -> None:
        self.usage_reader = StreamUsage(defaults)
        super().__init__(self.usage_reader)
        self.splitter = EventSplitter()
        self.framing = ArrayFraming() if as_array else None
        self.has_objects = self.is_recognized = False

    @property
    def is_complete(self) -> bool:
        """Return whether the response has ended."""
        return self.usage_reader.is_complete

    def feed(self, data: bytes) -> bytes:
        """Accept bytes from the provider, and return bytes for the client."""
        try:
            return b"".join([self.forward_event(event) for event in self.splitter.feed(data)])
        except EventTooLong:
            self.has_unread = True
            return self.splitter.finish() + data

    def finish(self) -> bytes:
        """Return the rest of the stream. A blank line is added after the last event if it is missing."""
        rest = self.splitter.finish()
        last = self.forward_event(rest) if rest.strip() else b""
        # Objects without known fields are forwarded, and Google's clients read them as empty chunks. If the
        # stream contains nothing else, the provider has failed.
        self.provider_failed = self.provider_failed or (self.has_objects and not self.is_recognized)
        self.check_end()
        if self.framing is not None:
            return last if self.error else last + self.framing.end()
        return last + EVENT_END if last else b""

    def forward_event(self, event: bytes) -> bytes:
        data = (
            event[6:-4]
            if event.startswith(b"data: ") and event.endswith(EVENT_END) and event.count(b"\n") == 2
            else event_data(event)
        )
        self.on_event(data)
        if self.framing is not None:
            return self.framing.frame(data) if data else b""
        if event.startswith(b":") or b"\n:" in event:
            return b"data: " + data + EVENT_END if data else b""
        return event

    def on_event(self, data: bytes) -> None:
        reader = self.usage_reader
        try:
            response = decode_lenient(decode_response_facts, data)
        except DECODE_ERRORS:
            with suppress(*DECODE_ERRORS):
                reader.read_undecodable(data)
            return
        self.has_objects = True
        self.is_recognized = self.is_recognized or response != EMPTY_RESPONSE
        self.provider_failed = self.provider_failed or bool(response.error)
        reader.read_feedback(response.prompt_feedback)
        for candidate in response.candidates or ():
            reader.read_candidate(candidate.index, candidate.finish_reason, candidate.grounding_metadata)
        for part in response.parts:
            reader.has_parts = True
            reader.add_tokens(part_tokens(part))
        reader.read_metadata(response.usage_metadata)

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Render an error of the gateway inside of a started stream, and end the stream."""
        framing = self.framing or EventFraming()
        return framing.frame(render_error(error, request_id)) + framing.end()
