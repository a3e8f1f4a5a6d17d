"""Relaying generateContent and streamGenerateContent (ai.google.dev/api/generate-content).

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import field

from proxy.formats import bounds
from proxy.formats.account_ids import AccountReference, WithoutAccountIds, references_in, unread_values
from proxy.formats.body import UNREADABLE, decode, decode_fields, decode_repaired, encode, read_safely, replace_fields
from proxy.formats.codec import Quirks
from proxy.formats.gemini.account_ids import VOCABULARY
from proxy.formats.gemini.encoder import ArrayFraming, EventFraming, StreamEncoder
from proxy.formats.gemini.errors import render_error
from proxy.formats.gemini.grounding import Grounded
from proxy.formats.gemini.settings import MAX_CHOICES, TokenLimit
from proxy.formats.gemini.usage import counts_in, merged, neutral_usage, with_services
from proxy.formats.letters import check_letters, check_nested
from proxy.formats.metering import OutputMeter
from proxy.formats.neutral import BadRequest, Call, Failure, Usage, stated
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.server_tools import DEFAULT_CALLS, heard, tier_of
from proxy.formats.sse import EventSplitter, EventTooLong, between_events, data_of
from proxy.formats.tokens import tokens_in_size, tokens_in_text
from proxy.formats.unread import unread_fields

LONGEST_MODEL = 200
EVENT_STREAM, JSON = "text/event-stream", "application/json"
SERVER_TOOL_TOKENS = 3_000
"""What a tool of Google's own may add to the prompt before it fetches anything."""
SOUND = (b"audio", b"video", b"fileUri", b"file_uri", b"cachedContent", b"cached_content")
"""What stands in a request that may hold sound, if only by reference."""
KINDS = dict.fromkeys(("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"), "web_search") | {
    "googleMaps": "google_maps"
}
"""Google's own tools that it bills by the call, under the names that all formats share."""
NULL = msgspec.Raw(b"null")
END_OF_EVENT = b"\r\n\r\n"
SPACE = b"\r\n"
"""Between the elements of a JSON array."""
NOTHING_NEW = b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}' + END_OF_EVENT
"""Google's Python SDK fails on comments, and its older one for JavaScript on a blank line: empty words are read by all."""


class Settings(msgspec.Struct):
    """Both spellings of each name: protocol buffers take either."""

    limit: TokenLimit | None = field(name="maxOutputTokens", default=None)
    snake_limit: TokenLimit | None = field(name="max_output_tokens", default=None)
    count: int | None = field(name="candidateCount", default=None)
    snake_count: int | None = field(name="candidate_count", default=None)
    response_schema: Any = field(name="responseSchema", default=None)
    snake_response_schema: Any = field(name="response_schema", default=None)
    response_json_schema: Any = field(name="responseJsonSchema", default=None)
    snake_response_json_schema: Any = field(name="response_json_schema", default=None)

    @property
    def choices(self) -> int:
        return self.count or self.snake_count or 1

    @property
    def schemas(self) -> list[Any]:
        given = (self.response_schema, self.snake_response_schema, self.response_json_schema, self.snake_response_json_schema)
        return [schema for schema in given if schema is not None]


class Request(msgspec.Struct):
    contents: list[dict[str, Any]] | dict[str, Any]
    tools: Any = None
    settings: Settings | None = field(name="generationConfig", default=None)
    snake_settings: Settings | None = field(name="generation_config", default=None)
    system: Any = field(name="systemInstruction", default=None)
    snake_system: Any = field(name="system_instruction", default=None)
    cached: Any = field(name="cachedContent", default=None)
    snake_cached: Any = field(name="cached_content", default=None)
    service_tier: Any = field(name="serviceTier", default=None)
    snake_service_tier: Any = field(name="service_tier", default=None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.contents if isinstance(self.contents, list) else [self.contents]


SPELLINGS = {
    kind: [(own, snake) for own in fields for snake in fields if snake.name == f"snake_{own.name}"]
    for kind in (Request, Settings)
    if (fields := msgspec.structs.fields(kind))
}


class Part(msgspec.Struct):
    text: str | None = None
    call: msgspec.Raw = field(name="functionCall", default=msgspec.Raw())
    code: msgspec.Raw = field(name="executableCode", default=msgspec.Raw())


class Content(msgspec.Struct):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    index: Any = None
    content: Content | None = None
    finish_reason: str | None = None
    grounding_metadata: Any = None


class Answer(msgspec.Struct, rename="camel"):
    candidates: list[Candidate] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    error: Any = None


class RawAnswer(msgspec.Struct, rename="camel"):
    candidates: msgspec.Raw = msgspec.Raw()
    usage_metadata: Any = None


TOOLS = frozenset(KINDS) | {"google_maps", "functionDeclarations", "function_declarations"}
SETTINGS = frozenset(field.encode_name for field in msgspec.structs.fields(Settings))
COUNTED = frozenset(field.encode_name for field in msgspec.structs.fields(Request)) | {"model"}
WORDS = bounds.vocabulary("""
    role parts text thought thoughtSignature thought_signature inlineData inline_data mimeType mime_type data fileData file_data
    fileUri file_uri functionCall function_call functionResponse function_response name id executableCode executable_code language
    code codeExecutionResult code_execution_result outcome output
""")

NOTHING_KNOWN = Answer()

decode_request = msgspec.json.Decoder(Request, strict=False).decode
decode_raw = msgspec.json.Decoder(RawAnswer).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_candidates = msgspec.json.Decoder(list[dict[str, Any]]).decode


class GeminiCall(WithoutAccountIds):
    """One client request in this format, and how to relay it. The model and whether to stream come from the address; with `array`,
    the client wants its stream as one JSON array, as Google sends it without `alt=sse`."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False, *, array: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.array = array
        self.request = request = decode(decode_request, body)
        self.settings = settings = request.settings or request.snake_settings or Settings()
        limit, choices = settings.limit or settings.snake_limit, settings.choices
        check_spellings(request)
        check_spellings(settings)
        check_letters_of(body, request)
        check(request, model, choices)
        self.others = others = unread_fields(body, COUNTED)
        bound = read_safely(lambda _: input_bound(request, settings, model), body)
        bound += bounds.settings_tokens(others)
        self.call = Call(
            model=model,
            input_bound=bound,
            output_limit=limit and limit * choices,
            choices=choices,
            stream=stream,
            service_tier=tier_of(request.service_tier or request.snake_service_tier) or "auto",
            tool_limits=tool_limits(request.tools) | heard(body, SOUND, bound),
        )

    @property
    def stream_type(self) -> str:
        return JSON if self.array else EVENT_STREAM

    def keep_alive(self, passed: bytes) -> bytes:
        if self.array:
            return SPACE
        return NOTHING_NEW if between_events(passed) else b""

    def path(self, model: str) -> str:
        return request_path(model, self.call.stream)

    def upstream_body(self, model: str, output_limit: int | None, _quirks: Quirks) -> bytes:
        """What the provider gets: a limit if one is given. The model is in the address."""
        if output_limit is None:
            return self.body
        is_snake = self.request.settings is None and self.request.snake_settings is not None
        name = "generation_config" if is_snake else "generationConfig"
        given = decode_fields(self.body).get(name, NULL)
        settings: dict[str, Any] = {} if given == NULL else dict(decode_fields(given))
        settings.pop("max_output_tokens", None)
        return replace_fields(self.body, {name: settings | {"maxOutputTokens": output_limit}})

    def meter(self) -> "StreamMeter":
        return StreamMeter(array=self.array)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request, array=self.array)

    def references(self) -> list[AccountReference]:
        asked, others = self.request, unread_values(self.others, VOCABULARY) if self.others else {}
        cached = {"cachedContent": asked.cached, "cached_content": asked.snake_cached}
        values = [asked.messages, asked.system, asked.snake_system, asked.tools, cached, others]
        return references_in(values, VOCABULARY)


def request_path(model: str, stream: bool) -> str:
    """The gateway always asks for server-sent events: an array has no marks to cut it by."""
    return f"{model_path(model)}:streamGenerateContent?alt=sse" if stream else f"{model_path(model)}:generateContent"


def model_path(model: str) -> str:
    return f"/v1beta/models/{quote(model, safe='')}"


def check_spellings(message: Request | Settings) -> None:
    """Which of two spellings of a field a provider would obey is not known."""
    for own, snake in SPELLINGS[type(message)]:
        if getattr(message, own.name) is not None and getattr(message, snake.name) is not None:
            raise BadRequest(f"Give {own.encode_name} or {snake.encode_name}, not both.", own.encode_name)


def check_letters_of(body: bytes, request: Request) -> None:
    """Raise BadRequest for a setting or a tool whose name is written in other letters."""
    check_nested(request.tools, TOOLS, "tools.")
    if request.settings is not None or request.snake_settings is not None:
        name = "generation_config" if request.settings is None else "generationConfig"
        check_letters(decode_fields(decode_fields(body)[name]), SETTINGS, f"{name}.")


def check(request: Request, model: str, choices: int) -> None:
    if not 1 <= len(model) <= LONGEST_MODEL:
        raise BadRequest("The address names no model.", "model")
    if not request.messages:
        raise BadRequest("The field contents is empty.", "contents")
    if not 1 <= choices <= MAX_CHOICES:
        raise BadRequest(f"The field candidateCount is from 1 to {MAX_CHOICES}.", "generationConfig.candidateCount")


def input_bound(request: Request, settings: Settings, model: str) -> int:
    """Tokens that the input cannot pass, but for what Google's own tools fetch."""
    image = bounds.image_tokens(model)
    messages = sum(bounds.TOKENS_PER_MESSAGE + prompt_tokens(message, image) for message in request.messages)
    system = prompt_tokens(request.system or request.snake_system, image)
    cached = bounds.STORED_TOKENS if request.cached or request.snake_cached else 0
    return bounds.TOKENS_PER_REPLY + messages + system + cached + tool_tokens(request.tools) + sum(len(encode(s)) for s in settings.schemas)


def tool_tokens(tools: Any) -> int:
    return 0 if tools is None else len(encode(tools)) + SERVER_TOOL_TOKENS * len(server_tools(tools))


def server_tools(tools: Any) -> list[str]:
    """Google's own tools among those of a request, under the names that it has for them."""
    kinds = [kind for tool in (tools if isinstance(tools, list) else [tools]) if isinstance(tool, dict) for kind in tool]
    return [kind for kind in kinds if kind not in ("functionDeclarations", "function_declarations")]


def tool_limits(tools: Any) -> dict[str, int]:
    """Google sets no limit to the calls of its tools, and takes none."""
    return dict.fromkeys((KINDS.get(kind, kind) for kind in server_tools(tools)), DEFAULT_CALLS)


def prompt_tokens(value: Any, image: int) -> int:
    """The bound for contents or a part in them."""
    return bounds.content_tokens(value or "", WORDS, partial(special_part, image))


def special_part(image: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Embedded pictures count by a formula; what only refers to something counts as the longest that it may be."""
    match part:
        case {"mimeType": str(mime), "data": str()} | {"mime_type": str(mime), "data": str()} if mime.startswith("image/"):
            return image, ("mimeType", "mime_type", "data")
        case {"fileUri": _} | {"file_uri": _}:
            return bounds.STORED_TOKENS, ()
        case _:
            return None


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that an answer states, if it states any, and our own count of its output tokens: by the bytes of what cannot be
    read."""
    try:
        answer = decode_repaired(decode_answer, body)
    except UNREADABLE:
        return salvaged(body)
    usage = stated(neutral_usage(counts_in(answer.usage_metadata)))
    if usage is None:
        is_answer = answer.candidates or answer.prompt_feedback
        return None, sum(map(tokens_in, parts_of(answer))) if is_answer else tokens_in_size(len(body))
    grounded = Grounded()
    for candidate in answer.candidates or ():
        grounded.read(candidate.grounding_metadata)
    return with_services(usage, answer.usage_metadata, grounded), 0


def salvaged(body: bytes) -> tuple[Usage | None, int]:
    """The same of an answer that cannot be read as a whole."""
    try:
        answer = decode_repaired(decode_raw, body)
    except UNREADABLE:
        return None, tokens_in_size(len(body))
    usage = with_services(stated(neutral_usage(counts_in(answer.usage_metadata))), answer.usage_metadata, Grounded())
    return usage, 0 if usage else tokens_in_size(len(bytes(answer.candidates)))


def parts_of(answer: Answer) -> list[Part]:
    return [part for candidate in answer.candidates or () if candidate.content for part in candidate.content.parts or ()]


def tokens_in(part: Part) -> int:
    """Tokens in one part by our own count; a picture or a signature is no text."""
    if part.text is not None:
        return tokens_in_text(part.text)
    return tokens_in_size(len(bytes(part.call)) + len(bytes(part.code)))


class StreamMeter(OutputMeter):
    """Reads a stream as it passes. `output_seen` is our own count of tokens.

    Every chunk states the usage so far. Until the answer has finished and states its counts, they may lag behind what has come: the output
    is then what was seen, if that is more. Comments stay here: Google's SDK fails on them.
    """

    def __init__(self, *, array: bool = False) -> None:
        self.splitter = EventSplitter()
        self.framing = ArrayFraming() if array else None
        self.counts: dict[str, int] = {}
        self.metadata: dict[str, Any] = {}
        self.grounded = Grounded()
        self.finishes: dict[int, bool] = {}
        self.blocked = self.judged = self.has_parts = False
        self.has_objects = self.is_recognised = self.final = False

    @property
    def finished(self) -> bool:
        return bool(self.finishes) and all(self.finishes.values())

    @property
    def is_complete(self) -> bool:
        """Google has no last event: a finish reason ends an answer, and a prompt that it blocks gets none."""
        return self.finished or self.blocked or (self.judged and not self.has_parts)

    @property
    def usage(self) -> Usage | None:
        usage = with_services(stated(neutral_usage(self.counts)), self.metadata, self.grounded)
        if usage is None or self.final:
            return usage
        return msgspec.structs.replace(usage, output=max(usage.output, self.output_seen), estimated=True)

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        try:
            return b"".join([self.pass_on(event) for event in self.splitter.feed(data)])
        except EventTooLong:
            self.has_unread = True
            return self.splitter.finish() + data

    def finish(self) -> bytes:
        """A last event that no blank line ended gets one, since clients drop it otherwise."""
        rest = self.splitter.finish()
        last = self.pass_on(rest) if rest.strip() else b""
        # A client of Google's reads objects without any known field as empty chunks: they pass as they are.
        self.provider_failed = self.provider_failed or (self.has_objects and not self.is_recognised)
        self.check_end()
        if self.framing is not None:
            return last if self.failure else last + self.framing.end()
        return last + END_OF_EVENT if last else b""

    def pass_on(self, event: bytes) -> bytes:
        data = event[6:-4] if event.startswith(b"data: ") and event.endswith(END_OF_EVENT) and event.count(b"\n") == 2 else data_of(event)
        self.read(data)
        if self.framing is not None:
            return self.framing.frame(data) if data else b""
        if event.startswith(b":") or b"\n:" in event:
            return b"data: " + data + END_OF_EVENT if data else b""
        return event

    def read(self, data: bytes) -> None:
        try:
            answer = decode_repaired(decode_answer, data)
        except UNREADABLE:
            self.salvage(data)
            return
        self.has_objects = True
        self.is_recognised = self.is_recognised or answer != NOTHING_KNOWN
        self.provider_failed = self.provider_failed or bool(answer.error)
        self.note_feedback(answer.prompt_feedback)
        for candidate in answer.candidates or ():
            self.note_finish(candidate.index, candidate.finish_reason)
            self.grounded.read(candidate.grounding_metadata)
            for part in (candidate.content and candidate.content.parts) or ():
                self.has_parts = True
                self.count(tokens_in(part))
        if answer.usage_metadata is not None:
            self.see(answer.usage_metadata)

    def see(self, metadata: Any) -> None:
        self.counts = merged(self.counts, metadata)
        self.metadata |= metadata if isinstance(metadata, dict) else {}
        self.final = self.is_complete and bool(counts_in(metadata))

    def note_feedback(self, feedback: Any) -> None:
        self.judged = self.judged or feedback is not None
        self.blocked = self.blocked or (isinstance(feedback, dict) and bool(feedback.get("blockReason")))

    def note_finish(self, index: Any, reason: Any) -> None:
        index = index if isinstance(index, int) else 0
        self.finishes[index] = bool(reason) or self.finishes.get(index, False)

    def salvage(self, data: bytes) -> None:
        try:
            answer = decode_repaired(decode_raw, data)
        except UNREADABLE:
            return
        self.counts = merged(self.counts, answer.usage_metadata) if answer.usage_metadata else self.counts
        self.count(tokens_in_size(len(bytes(answer.candidates))))
        with suppress(*UNREADABLE):
            for candidate in decode_candidates(answer.candidates):
                self.has_parts = True
                self.note_finish(candidate.get("index"), candidate.get("finishReason"))

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """An error of the gateway's in a stream that has begun, with what ends the stream."""
        framing = self.framing or EventFraming()
        return framing.frame(render_error(failure, request_id)) + framing.end()
