"""Relaying OpenAI Chat Completions (platform.openai.com/docs/api-reference/chat) to a server of the same format.

A request goes as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from proxy.formats import bounds
from proxy.formats.account_ids import AccountReference, IdReader, references_in, unread_values
from proxy.formats.body import UNREADABLE, decode, decode_repaired, encode, replace_fields
from proxy.formats.codec import Quirks
from proxy.formats.letters import check_letters, check_nested
from proxy.formats.metering import OutputMeter, end_of
from proxy.formats.neutral import Call, Failure, Request, Usage, stated
from proxy.formats.openai_chat.account_ids import VOCABULARY, ChatIdReader
from proxy.formats.openai_chat.models import limit_field
from proxy.formats.openai_chat.response import error_event
from proxy.formats.openai_chat.stream import DONE, StreamEncoder
from proxy.formats.openai_chat.usage import MAX_TOKENS, WireUsage, neutral_usage, usage_in
from proxy.formats.server_tools import heard, objects, tier_of
from proxy.formats.sse import END_OF_EVENT, EventSplitter, EventTooLong, comment_after, data_of
from proxy.formats.tokens import tokens_in_size
from proxy.formats.unread import of_other_models, unbounded, unread_fields

MAX_CHOICES = 128
ABSENT = msgspec.Raw()

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
OF_THE_CLIENT = ("function", "custom")
LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


class RelayedRequest(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None
    service_tier: Any = None
    web_search_options: Any = None


class Answer(msgspec.Struct):
    choices: list[dict[str, Any]] | None = None
    usage: WireUsage | None = None
    error: Any = None
    service_tier: Any = None


class RawAnswer(msgspec.Struct):
    choices: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    service_tier: Any = None


FIELDS = frozenset(RelayedRequest.__struct_fields__)
COUNTED = FIELDS - {"web_search_options"} | {"metadata"}
TOOL_FIELDS, STREAM_FIELDS = frozenset({"type"}), frozenset({"include_usage"})
WORDS = bounds.vocabulary("""
    role content type text image_url url detail name refusal tool_calls tool_call_id id index function function_call arguments
    custom input input_audio data format file file_data filename audio cache_control reasoning reasoning_content
""")
SOUND = (b"audio", b"video")
LINKED = ("document_url", "video_url", "audio_url")
"""Parts of compatible servers that only point to what is read."""

decode_request = msgspec.json.Decoder(RelayedRequest).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_raw = msgspec.json.Decoder(RawAnswer).decode
decode_choices = msgspec.json.Decoder(list[dict[str, Any]]).decode


class ChatCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"
    keep_alive = staticmethod(comment_after)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        limit, choices = max(request.max_completion_tokens or 0, request.max_tokens or 0) or None, request.n or 1
        self.others = others = unread_fields(body, COUNTED, FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        check_letters(request.stream_options or (), STREAM_FIELDS, "stream_options.")
        bound = input_bound(request) + bounds.settings_tokens(others)
        # A model that searches does so once, before it answers (platform.openai.com/docs/guides/tools-web-search).
        searches = {} if request.web_search_options is None else {"web_search": 1}
        self.call = Call(
            model=request.model,
            input_bound=bound,
            output_limit=limit and limit * choices,
            choices=choices,
            stream=bool(request.stream),
            service_tier=tier_of(request.service_tier) or "auto",
            tool_limits=searches | heard(body, SOUND, bound),
            unbounded=unbounded(others),
            of_other_models=of_other_models(others) + run_by_the_provider(request.tools),
        )

    def path(self, model: str) -> str:
        return request_path(model, self.call.stream)

    @property
    def wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.get("include_usage"))

    def upstream_body(self, model: str, output_limit: int | None, quirks: Quirks) -> bytes:
        """What the provider gets: its own name for the model, usage at the end of a stream unless it rejects the wish or states it
        anyway, and a limit if one is given."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if self.request.stream and not self.wants_usage and "wants_usage" not in quirks.unsupported:
            fields["stream_options"] = {**(self.request.stream_options or {}), "include_usage": True}
        if output_limit is not None:
            # A client's own limit is lowered under the name that it has: beside another one it would still be there.
            given = {name: limit for name in LIMIT_FIELDS if (limit := getattr(self.request, name)) is not None}
            fields |= {name: min(limit, output_limit) for name, limit in given.items()} or {limit_field(model, quirks): output_limit}
        return replace_fields(self.body, fields) if fields else self.body

    def meter(self) -> "StreamMeter":
        return StreamMeter(withhold_usage=not self.wants_usage)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def references(self) -> list[AccountReference]:
        others = unread_values(self.others, VOCABULARY) if self.others else {}
        return references_in([self.request.messages, self.request.tools, others], VOCABULARY)

    def id_reader(self) -> IdReader | None:
        """Return a reader for answers with sound: no other ids of this format can be used again."""
        return ChatIdReader() if "audio" in self.others else None

    def encoder(self, request: Request) -> StreamEncoder:
        return StreamEncoder(request)


def request_path(_model: str, _stream: bool) -> str:
    return "/chat/completions"


def input_bound(request: RelayedRequest) -> int:
    """Tokens that messages, tools and answer's form cannot pass at any OpenAI-compatible model."""
    special = partial(special_part, bounds.image_tokens(request.model))
    extras = [extra for extra in (request.tools, request.functions, request.response_format) if extra is not None]
    messages = sum(plain_tokens(message) or bounds.content_tokens(message, WORDS, special) for message in request.messages)
    return (
        bounds.TOKENS_PER_REPLY + bounds.TOKENS_PER_MESSAGE * len(request.messages) + messages + sum(len(encode(extra)) for extra in extras)
    )


def run_by_the_provider(tools: Any) -> tuple[str, ...]:
    """The field of the tools, where some are no functions: servers that take such in this format (OpenRouter, Groq, xAI) bill them as
    they like, and OpenRouter's advisers and subagents are other models."""
    return ("tools",) if any(tool.get("type", "function") not in OF_THE_CLIENT for tool in objects(tools)) else ()


def plain_tokens(message: dict[str, Any]) -> int:
    """The same for a message of a role and a text alone, as nearly all are; 0 for any other."""
    match message:
        case {"role": str(role), "content": str(text)} if len(message) == 2:
            return bounds.size(role) + bounds.size(text)
        case _:
            return 0


def special_part(image: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Pictures count by the vendor's formula; what only refers to something counts as the longest that it may be."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)} as picture}:
            return bounds.picture_tokens(url, image) + bounds.beside(picture, ("url", "detail")), ("type", "image_url")
        case {"type": "image_url", "image_url": url}:
            return bounds.picture_tokens(url, image), ("type", "image_url")
        case {"type": str(kind)} if kind in LINKED:
            return bounds.STORED_TOKENS, ()
        case {"file_id": str()}:
            return bounds.STORED_TOKENS, ("file_id",)
        case {"file_data": str(link)} if link.startswith("http"):
            return bounds.STORED_TOKENS, ()
        case {"audio": {"id": _}}:
            return bounds.STORED_TOKENS, ()
        case _:
            return None


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that an answer states, if it states any, and our own count of its output tokens: by the bytes of what cannot be
    read. Each is read by itself, so that neither hides the other."""
    try:
        answer = decode_repaired(decode_raw, body)
    except UNREADABLE:
        return None, tokens_in_size(len(body))
    usage = stated(usage_in(answer.usage, answer.service_tier))
    if usage is not None:
        return usage, 0
    try:
        return None, sum(map(tokens_in_choice, decode_choices(answer.choices)))
    except UNREADABLE:
        return None, tokens_in_size(len(body))


def tokens_in_choice(choice: dict[str, Any]) -> int:
    """Text completions have their text in the choice itself."""
    return tokens_in(choice.get("message") or choice.get("delta")) or written_tokens(choice.get("text"))


class StreamMeter(OutputMeter):
    """Reads a stream as it passes. `output_seen` is our own count of tokens.

    Some servers state the usage so far in every chunk. If more output has come since the last one, what was seen counts.
    With `withhold_usage` the chunk that carries nothing but usage stays here: the client did not ask for it, we did.
    """

    def __init__(self, *, withhold_usage: bool) -> None:
        self.splitter = EventSplitter()
        self.withhold_usage = withhold_usage
        self.last_usage: Usage | None = None
        self.seen_before = 0
        """Our count of the output that the last usage covers."""
        self.finished: dict[int, bool] = {}

    @property
    def is_complete(self) -> bool:
        """Some servers never send [DONE]: an answer of which every choice has its finish reason is complete."""
        return self.ended or (bool(self.finished) and all(self.finished.values()))

    @property
    def usage(self) -> Usage | None:
        usage = self.last_usage
        if usage is None or self.output_seen == self.seen_before:
            return usage
        return replace(usage, output=max(usage.output, self.output_seen), estimated=True)

    def see(self, usage: Usage | None) -> None:
        if usage is not None:
            self.last_usage, self.seen_before = usage, self.output_seen

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        try:
            events = self.splitter.feed(data)
        except EventTooLong:
            self.has_unread = True
            return self.splitter.finish() + data if self.withhold_usage else data
        if not self.withhold_usage:
            for event in events:
                self.read(event)
            return data
        return b"".join(event for event in events if self.read(event))

    def finish(self) -> bytes:
        """What is still to be sent when the provider has closed the stream: a last event that no blank line ended gets one,
        since clients drop it otherwise."""
        rest = self.splitter.finish()
        passes = bool(rest) and self.read(rest)
        self.check_end()
        if not passes:
            return b""
        return rest + END_OF_EVENT if self.withhold_usage else END_OF_EVENT

    def read(self, event: bytes) -> bool:
        """Counts one event; False where the client should not see it."""
        if self.ids is not None:
            self.ids.read_event(event)
        data = data_of(event).strip()
        if not data.startswith(b"{"):
            self.provider_failed = self.provider_failed or event.startswith(b"event: error")
            self.ended = self.ended or data == DONE
            return True
        try:
            chunk = decode_answer(data)
        except UNREADABLE:
            self.salvage(data)
            return True
        self.provider_failed = self.provider_failed or bool(chunk.error)
        for choice in chunk.choices or ():
            self.count(tokens_in_choice(choice))
            self.note_finish(choice)
        if chunk.usage is None:
            return True
        self.see(stated(neutral_usage(chunk.usage, chunk.service_tier)))
        return bool(chunk.choices) or chunk.usage.reasoning_tokens is not None

    def note_finish(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        reason = choice.get("finish_reason") or choice.get("finish_details")
        self.finished[index] = bool(reason) or self.finished.get(index, False)

    def salvage(self, data: bytes) -> None:
        """What a chunk tells that cannot be read as a whole."""
        usage, counted = measure(data)
        self.count(counted)
        self.see(usage)
        with suppress(*UNREADABLE):
            for choice in decode_choices(decode_repaired(decode_raw, data).choices):
                self.note_finish(choice)

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        begun = b"" if self.withhold_usage else end_of(self.splitter)
        return begun + error_event(failure, request_id)


def tokens_in(delta: Any) -> int:
    """Tokens in one delta by our own count."""
    if not isinstance(delta, dict):
        return 0
    return tokens_in_size(sum(written(value) for name, value in delta.items() if value and name not in ("role", "id")))


def written_tokens(value: Any) -> int:
    return tokens_in_size(written(value))


def written(value: Any) -> int:
    """Bytes of the texts in what the model said."""
    match value:
        case str():
            return bounds.size(value)
        case dict():
            return sum(map(written, value.values()))
        case list():
            return sum(map(written, value))
        case _:
            return 0
