"""Relaying between a client and a provider that both speak this format.

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds, neutral
from proxy.formats.account_ids import AccountReference, IdReader, references_in, unread_values
from proxy.formats.body import UNREADABLE, decode, decode_repaired, encode, replace_fields
from proxy.formats.codec import Quirks
from proxy.formats.letters import check_nested
from proxy.formats.metering import EventMeter
from proxy.formats.neutral import Call, Failure, Usage
from proxy.formats.openai_responses import pictures
from proxy.formats.openai_responses.account_ids import (
    VOCABULARY,
    ResponsesIdReader,
    item_references,
    stored_references,
)
from proxy.formats.openai_responses.response import WireUsage, error_event, neutral_usage
from proxy.formats.openai_responses.server_tools import MARKS, billed_calls, tool_limits, with_services
from proxy.formats.openai_responses.stream import StreamEncoder
from proxy.formats.server_tools import tier_of
from proxy.formats.sse import comment_after, data_of, name_of
from proxy.formats.tokens import tokens_in_size, tokens_in_text
from proxy.formats.unread import advisers, of_other_models, unbounded, unread_fields

PATH = "/responses"
MAX_TOKENS = 2**31 - 1

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct):
    model: ModelName
    input: str | list[dict[str, Any] | str] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    max_output_tokens: TokenLimit | None = None
    tools: Any = None
    text: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    service_tier: Any = None
    max_tool_calls: Any = None
    store: Any = None


class Answer(msgspec.Struct):
    output: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: Any = None
    tool_usage: Any = None


class Closing(msgspec.Struct):
    response: Answer | None = None


class Typed(msgspec.Struct):
    type: str = ""
    error: Any = None


class Done(msgspec.Struct):
    item: dict[str, Any] = {}


class Delta(msgspec.Struct):
    delta: str


FIELDS = frozenset(Request.__struct_fields__)
COUNTED = FIELDS - {"prompt"} | {"metadata"}
TOOL_FIELDS = frozenset({"type", "model", "size", "quality", "partial_images", "svg", "container", "environment", "memory_limit"})
WORDS = bounds.vocabulary("""
    role content type text image_url detail call_id name arguments output id status summary encrypted_content input file_data
    filename refusal phase
""")
ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
STORED_FIELDS = ("previous_response_id", "conversation", "prompt")
TERMINAL = re.compile(rb'"(error|response\.(completed|incomplete|failed|cancelled))"')
PICTURES = ("input_image", "computer_screenshot")

decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_usage = msgspec.json.Decoder(WireUsage).decode
decode_output = msgspec.json.Decoder(list[dict[str, Any]]).decode
decode_type = msgspec.json.Decoder(Typed).decode
decode_closing = msgspec.json.Decoder(Closing).decode
decode_done = msgspec.json.Decoder(Done).decode
decode_any = msgspec.json.Decoder().decode
decode_delta = msgspec.json.Decoder(Delta).decode


def request_path(model: str, stream: bool) -> str:
    return PATH


class ResponsesCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"
    keep_alive = staticmethod(comment_after)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        self.others = others = unread_fields(body, COUNTED, FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        self.call = Call(
            model=request.model,
            input_bound=input_bound(request) + bounds.settings_tokens(others),
            output_limit=request.max_output_tokens,
            stream=bool(request.stream),
            service_tier=tier_of(request.service_tier) or "auto",
            tool_limits=tool_limits(request.tools, request.max_tool_calls),
            # A prompt that the provider keeps may bring tools of its own.
            unbounded=unbounded(others, "prompt"),
            of_other_models=of_other_models(others) + advisers(request.tools),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, output_limit: int | None, quirks: Quirks) -> bytes:
        """What the provider gets: its own name for the model, and a limit if one is given, which has one name everywhere here."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if output_limit is not None:
            fields["max_output_tokens"] = output_limit
        return replace_fields(self.body, fields) if fields else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """The usage that a complete answer states, if it states any, and our own count of its output tokens."""
        try:
            return measure(decode_repaired(decode_answer, body))
        except UNREADABLE:
            return None, tokens_in_size(len(body))

    def meter(self) -> "StreamMeter":
        return StreamMeter(self.request.tools)

    def encoder(self, request: neutral.Request) -> StreamEncoder:
        return StreamEncoder(request)

    def references(self) -> list[AccountReference]:
        asked, others = self.request, unread_values(self.others, VOCABULARY) if self.others else {}
        stored = {name: value for name in STORED_FIELDS if (value := getattr(asked, name))}
        found = stored_references(stored) if stored else []
        found += item_references(asked.input)
        values = [asked.input, asked.instructions, asked.tools, stored, others]
        return found + references_in(values, VOCABULARY)

    def id_reader(self) -> IdReader | None:
        """Return a reader. A response that is not stored can still be named to compare the use of a cache."""
        is_compared = "prompt_cache_options" in self.others
        return ResponsesIdReader(keeps=self.request.store is not False or is_compared)


def input_bound(request: Request) -> int:
    """Tokens that the input cannot pass at any model."""
    special = partial(special_part, bounds.image_tokens(request.model))
    items = [request.input] if isinstance(request.input, str) else request.input or []
    messages = sum(bounds.TOKENS_PER_MESSAGE + bounds.content_tokens(item, WORDS, special) for item in items)
    if request.instructions:
        messages += bounds.TOKENS_PER_MESSAGE + bounds.content_tokens(request.instructions, WORDS, special)
    if request.previous_response_id or request.conversation or request.prompt:
        messages += bounds.STORED_TOKENS
    return bounds.TOKENS_PER_REPLY + messages + sum(len(encode(extra)) for extra in (request.tools, request.text) if extra is not None)


def special_part(image: int, part: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Pictures count by the vendor's formula; what only refers to something counts as the longest that it may be."""
    match part:
        case {"type": str(kind), "image_url": str(url)} if kind in PICTURES:
            return bounds.picture_tokens(url, image), ("type", "image_url", "detail")
        case {"type": str(kind), "file_id": str()} if kind in PICTURES:
            return image, ("type", "file_id", "detail")
        case {"type": "item_reference"} | {"file_id": str()} | {"file_url": str()}:
            return bounds.STORED_TOKENS, ()
        case _:
            return None


def measure(answer: Answer) -> tuple[Usage | None, int]:
    """Usage and output are read each by itself, so that neither hides the other. Raises one of UNREADABLE where neither can be."""
    usage = neutral.stated(usage_in(answer.usage))
    if usage is None:
        return None, sum(map(tokens_in, decode_output(answer.output)))
    told = called_tools(answer.output) or pictures.are_stated(answer.tool_usage)
    output, tools = (decode_any(raw) for raw in (answer.output, answer.tools)) if told else (None, None)
    return with_services(usage, answer.service_tier, output, tools, answer.tool_usage), 0


def called_tools(output: msgspec.Raw) -> bool:
    written = bytes(output)
    return any(mark in written for mark in MARKS)


def usage_in(raw: msgspec.Raw) -> Usage | None:
    try:
        return neutral_usage(decode_usage(raw))
    except UNREADABLE:
        return None


def tokens_in(value: Any) -> int:
    """Our own count of what the model wrote in an item: its texts, arguments and thoughts, without ids and the like."""
    match value:
        case list():
            return sum(map(tokens_in, value))
        case dict():
            written = ("content", "summary", "text", "refusal", "arguments", "input", "code")
            return sum(tokens_in(value[name]) for name in written if name in value)
        case str():
            return tokens_in_text(value)
        case _:
            return 0


class StreamMeter(EventMeter):
    """Reads a stream as it passes. `usage` is what the provider stated, `output_seen` our own count of tokens. `tools` are those that
    were offered."""

    def __init__(self, tools: Any = None) -> None:
        super().__init__()
        self.tools = tools
        self.called: list[dict[str, Any]] = []
        self.usage: Usage | None = None

    @property
    def calls_seen(self) -> Mapping[str, int]:
        return billed_calls(self.called, self.tools, None)

    def read(self, event: bytes) -> None:
        """Most events carry neither text nor usage, and are told by a search: a quote in a text has a backslash before it."""
        try:
            if b'.delta"' in event:
                self.count(tokens_in_text(decode_repaired(decode_delta, data_of(event)).delta))
                return
            if b'"response.output_item.done"' in event and any(mark in event for mark in MARKS):
                item = decode_repaired(decode_done, data_of(event)).item
                self.called.append({name: value for name, value in item.items() if name != "result"})
                return
            if (name := name_of(event).decode(errors="replace")) in ENDS:
                self.end(name)
            elif TERMINAL.search(event):
                typed = decode_repaired(decode_type, data_of(event))
                # Compatible servers send an error without any type.
                self.end(typed.type or "error" if typed.error is not None else typed.type)
            if self.ended or b'"usage":' in event or b'"usage" :' in event:
                self.close(decode_repaired(decode_closing, data_of(event)).response)
        except UNREADABLE:
            return

    def end(self, kind: str) -> None:
        """The search that led here may have met the same words elsewhere in an event."""
        self.ended = self.ended or kind in ENDS
        self.provider_failed = self.provider_failed or kind in ("error", "response.failed")

    def close(self, answer: Answer | None) -> None:
        usage, counted = measure(answer) if answer else (None, 0)
        self.usage = usage or self.usage
        self.output_seen = self.output_seen or counted

    def own_error_event(self, failure: Failure, request_id: str) -> bytes:
        return error_event(failure, request_id)
