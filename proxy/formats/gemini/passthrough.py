"""Relaying generateContent and streamGenerateContent (ai.google.dev/api/generate-content).

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from proxy.formats.account_ids import AccountReference, WithoutAccountIds, references_in, unread_values
from proxy.formats.field_case import check_letters, check_nested
from proxy.formats.gemini.account_ids import VOCABULARY
from proxy.formats.gemini.capabilities import BILLABLE_TOOLS, MAX_MODEL_LENGTH, MAX_N, SERVER_TOOL_TOKENS
from proxy.formats.gemini.encoder import ArrayFraming, EventFraming, StreamEncoder
from proxy.formats.gemini.errors import render_error
from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.request import JSON_TYPE, request_path
from proxy.formats.gemini.usage import merge_counts, parse_counts, usage_from_counts, with_billable_extras
from proxy.formats.gemini.wire import (
    NULL,
    GenerationFields,
    PartFacts,
    RequestFields,
    ResponseFacts,
    decode_candidates,
    decode_raw_response_facts,
    decode_request_fields,
    decode_response_facts,
)
from proxy.formats.json_body import (
    DECODE_ERRORS,
    decode_body,
    decode_fields,
    decode_lenient,
    encode,
    guard_recursion,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import DEFAULT_MAX_CALLS, normalize_tier, possible_modalities
from proxy.formats.metering.stream_meter import OutputMeter
from proxy.formats.metering.token_counts import estimate_text_tokens, estimate_tokens
from proxy.formats.metering.unknown_fields import extract_unknown_fields
from proxy.formats.neutral import ApiError, InvalidRequest, RequestFacts, Usage, stated
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, at_event_boundary, event_data

EVENT_STREAM_TYPE = "text/event-stream"
AUDIO_MARKERS = (b"audio", b"video", b"fileUri", b"file_uri", b"cachedContent", b"cached_content")
"""What stands in a request that may hold sound, if only by reference."""
EVENT_END = b"\r\n\r\n"
KEEPALIVE_JSON = b"\r\n"
"""Between the elements of a JSON array."""
KEEPALIVE_EVENT = (
    b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}' + EVENT_END
)
"""Google's Python SDK fails on comments, and its older one for JavaScript on a blank line: empty words are read by all."""
SPELLINGS = {
    kind: [(own, snake) for own in fields for snake in fields if snake.name == f"snake_{own.name}"]
    for kind in (RequestFields, GenerationFields)
    if (fields := msgspec.structs.fields(kind))
}
TOOL_FIELDS = frozenset(BILLABLE_TOOLS) | {"google_maps", "functionDeclarations", "function_declarations"}
GENERATION_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(GenerationFields))
COUNTED_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(RequestFields)) | {"model"}
KNOWN_FIELDS = token_bounds.field_names("""
    role parts text thought thoughtSignature thought_signature inlineData inline_data mimeType mime_type data fileData file_data
    fileUri file_uri functionCall function_call functionResponse function_response name id executableCode executable_code language
    code codeExecutionResult code_execution_result outcome output
""")
NOTHING_KNOWN = ResponseFacts()


class GenerateContentRequest(WithoutAccountIds):
    """One client request in this format, and how to relay it. The model and whether to stream come from the address; with `as_array`,
    the client wants its stream as one JSON array, as Google sends it without `alt=sse`.
    """

    def __init__(self, body: bytes, model: str = "", stream: bool = False, *, as_array: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.as_array = as_array
        self.request = request = decode_body(decode_request_fields, body)
        self.settings = settings = request.settings or request.snake_settings or GenerationFields()
        limit, choices = settings.max_output_tokens or settings.snake_max_output_tokens, settings.n
        reject_both_spellings(request)
        reject_both_spellings(settings)
        check_letters_of(body, request)
        validate_request(request, model, choices)
        self.others = others = extract_unknown_fields(body, COUNTED_FIELDS)
        bound = guard_recursion(lambda _: max_input_tokens(request, settings, model), body)
        bound += token_bounds.unknown_fields_tokens(others)
        self.facts = RequestFacts(
            model=model,
            max_input_tokens=bound,
            max_output_tokens=limit and limit * choices,
            n=choices,
            stream=stream,
            service_tier=normalize_tier(request.service_tier or request.snake_service_tier) or "auto",
            max_billable_extras=max_billable_extras(request.tools)
            | possible_modalities(body, AUDIO_MARKERS, bound),
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
        """What the provider gets: a limit if one is given. The model is in the address."""
        if max_tokens is None:
            return self.body
        is_snake = self.request.settings is None and self.request.snake_settings is not None
        name = "generation_config" if is_snake else "generationConfig"
        given = decode_fields(self.body).get(name, NULL)
        settings: dict[str, Any] = {} if given == NULL else dict(decode_fields(given))
        settings.pop("max_output_tokens", None)
        return replace_fields(self.body, {name: settings | {"maxOutputTokens": max_tokens}})

    def meter(self) -> "StreamMeter":
        return StreamMeter(as_array=self.as_array)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request, as_array=self.as_array)

    def references(self) -> list[AccountReference]:
        asked, others = self.request, unread_values(self.others, VOCABULARY) if self.others else {}
        cached = {"cachedContent": asked.cached, "cached_content": asked.snake_cached}
        values = [asked.messages, asked.system, asked.snake_system, asked.tools, cached, others]
        return references_in(values, VOCABULARY)


def reject_both_spellings(message: RequestFields | GenerationFields) -> None:
    """Which of two spellings of a field a provider would obey is not known."""
    for own, snake in SPELLINGS[type(message)]:
        if getattr(message, own.name) is not None and getattr(message, snake.name) is not None:
            raise InvalidRequest(f"Give {own.encode_name} or {snake.encode_name}, not both.", own.encode_name)


def check_letters_of(body: bytes, request: RequestFields) -> None:
    """Raise BadRequest for a setting or a tool whose name is written in other letters."""
    check_nested(request.tools, TOOL_FIELDS, "tools.")
    if request.settings is not None or request.snake_settings is not None:
        name = "generation_config" if request.settings is None else "generationConfig"
        check_letters(decode_fields(decode_fields(body)[name]), GENERATION_FIELDS, f"{name}.")


def validate_request(request: RequestFields, model: str, n: int) -> None:
    if not 1 <= len(model) <= MAX_MODEL_LENGTH:
        raise InvalidRequest("The address names no model.", "model")
    if not request.messages:
        raise InvalidRequest("The field contents is empty.", "contents")
    if not 1 <= n <= MAX_N:
        raise InvalidRequest(
            f"The field candidateCount is from 1 to {MAX_N}.", "generationConfig.candidateCount"
        )


def max_input_tokens(request: RequestFields, settings: GenerationFields, model: str) -> int:
    """Tokens that the input cannot pass, but for what Google's own tools fetch."""
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
    """Google's own tools among those of a request, under the names that it has for them."""
    kinds = [
        kind
        for tool in (tools if isinstance(tools, list) else [tools])
        if isinstance(tool, dict)
        for kind in tool
    ]
    return [kind for kind in kinds if kind not in ("functionDeclarations", "function_declarations")]


def max_billable_extras(tools: Any) -> dict[str, int]:
    """Google sets no limit to the calls of its tools, and takes none."""
    return dict.fromkeys(
        (BILLABLE_TOOLS.get(kind, kind) for kind in server_tool_names(tools)), DEFAULT_MAX_CALLS
    )


def prompt_tokens(value: Any, image_tokens: int) -> int:
    """The bound for contents or a part in them."""
    return token_bounds.content_tokens(value or "", KNOWN_FIELDS, partial(count_special_part, image_tokens))


def count_special_part(image_tokens: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Embedded pictures count by a formula; what only refers to something counts as the longest that it may be."""
    match part:
        case {"mimeType": str(mime), "data": str()} | {"mime_type": str(mime), "data": str()} if (
            mime.startswith("image/")
        ):
            return image_tokens, ("mimeType", "mime_type", "data")
        case {"fileUri": _} | {"file_uri": _}:
            return token_bounds.REFERENCED_CONTENT_TOKENS, ()
        case _:
            return None


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that an answer states, if it states any, and our own count of its output tokens: by the bytes of what cannot be
    read.
    """
    try:
        answer = decode_lenient(decode_response_facts, body)
    except DECODE_ERRORS:
        return measure_lenient(body)
    usage = stated(usage_from_counts(parse_counts(answer.usage_metadata)))
    if usage is None:
        is_answer = answer.candidates or answer.prompt_feedback
        return None, sum(map(part_tokens, response_parts(answer))) if is_answer else estimate_tokens(
            len(body)
        )
    grounded = GroundingUsage()
    for candidate in answer.candidates or ():
        grounded.add(candidate.grounding_metadata)
    return with_billable_extras(usage, answer.usage_metadata, grounded), 0


def measure_lenient(body: bytes) -> tuple[Usage | None, int]:
    """The same of an answer that cannot be read as a whole."""
    try:
        answer = decode_lenient(decode_raw_response_facts, body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = with_billable_extras(
        stated(usage_from_counts(parse_counts(answer.usage_metadata))),
        answer.usage_metadata,
        GroundingUsage(),
    )
    return usage, 0 if usage else estimate_tokens(len(bytes(answer.candidates)))


def response_parts(response: ResponseFacts) -> list[PartFacts]:
    return [
        part
        for candidate in response.candidates or ()
        if candidate.content
        for part in candidate.content.parts or ()
    ]


def part_tokens(part: PartFacts) -> int:
    """Tokens in one part by our own count; a picture or a signature is no text."""
    if part.text is not None:
        return estimate_text_tokens(part.text)
    return estimate_tokens(len(bytes(part.call)) + len(bytes(part.code)))


class StreamMeter(OutputMeter):
    """Reads a stream as it passes. `output_tokens` is our own count of tokens.

    Every chunk states the usage so far. Until the answer has finished and states its counts, they may lag behind what has come: the output
    is then what was seen, if that is more. Comments stay here: Google's SDK fails on them.
    """

    def __init__(self, *, as_array: bool = False) -> None:
        self.splitter = EventSplitter()
        self.framing = ArrayFraming() if as_array else None
        self.counts: dict[str, int] = {}
        self.usage_metadata: dict[str, Any] = {}
        self.grounding_usage = GroundingUsage()
        self.finishes: dict[int, bool] = {}
        self.blocked = self.judged = self.has_parts = False
        self.has_objects = self.is_recognised = self.final = False

    @property
    def saw_finish_reason(self) -> bool:
        return bool(self.finishes) and all(self.finishes.values())

    @property
    def is_complete(self) -> bool:
        """Google has no last event: a finish reason ends an answer, and a prompt that it blocks gets none."""
        return self.saw_finish_reason or self.blocked or (self.judged and not self.has_parts)

    @property
    def usage(self) -> Usage | None:
        usage = with_billable_extras(
            stated(usage_from_counts(self.counts)), self.usage_metadata, self.grounding_usage
        )
        if usage is None or self.final:
            return usage
        return msgspec.structs.replace(usage, output=max(usage.output, self.output_tokens), estimated=True)

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        try:
            return b"".join([self.forward_event(event) for event in self.splitter.feed(data)])
        except EventTooLong:
            self.has_unread = True
            return self.splitter.finish() + data

    def finish(self) -> bytes:
        """A last event that no blank line ended gets one, since clients drop it otherwise."""
        rest = self.splitter.finish()
        last = self.forward_event(rest) if rest.strip() else b""
        # A client of Google's reads objects without any known field as empty chunks: they pass as they are.
        self.provider_failed = self.provider_failed or (self.has_objects and not self.is_recognised)
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
        try:
            answer = decode_lenient(decode_response_facts, data)
        except DECODE_ERRORS:
            self.add_measured(data)
            return
        self.has_objects = True
        self.is_recognised = self.is_recognised or answer != NOTHING_KNOWN
        self.provider_failed = self.provider_failed or bool(answer.error)
        self.note_feedback(answer.prompt_feedback)
        for candidate in answer.candidates or ():
            self.note_finish(candidate.index, candidate.finish_reason)
            self.grounding_usage.add(candidate.grounding_metadata)
            for part in (candidate.content and candidate.content.parts) or ():
                self.has_parts = True
                self.add_tokens(part_tokens(part))
        if answer.usage_metadata is not None:
            self.see(answer.usage_metadata)

    def see(self, metadata: Any) -> None:
        self.counts = merge_counts(self.counts, metadata)
        self.usage_metadata |= metadata if isinstance(metadata, dict) else {}
        self.final = self.is_complete and bool(parse_counts(metadata))

    def note_feedback(self, feedback: Any) -> None:
        self.judged = self.judged or feedback is not None
        self.blocked = self.blocked or (isinstance(feedback, dict) and bool(feedback.get("blockReason")))

    def note_finish(self, index: Any, reason: Any) -> None:
        index = index if isinstance(index, int) else 0
        self.finishes[index] = bool(reason) or self.finishes.get(index, False)

    def add_measured(self, data: bytes) -> None:
        try:
            answer = decode_lenient(decode_raw_response_facts, data)
        except DECODE_ERRORS:
            return
        self.counts = (
            merge_counts(self.counts, answer.usage_metadata) if answer.usage_metadata else self.counts
        )
        self.add_tokens(estimate_tokens(len(bytes(answer.candidates))))
        with suppress(*DECODE_ERRORS):
            for candidate in decode_candidates(answer.candidates):
                self.has_parts = True
                self.note_finish(candidate.get("index"), candidate.get("finishReason"))

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """An error of the gateway's in a stream that has begun, with what ends the stream."""
        framing = self.framing or EventFraming()
        return framing.frame(render_error(error, request_id)) + framing.end()
