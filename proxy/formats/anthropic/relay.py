"""Anthropic Messages (platform.claude.com/docs/en/api/messages).

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.account_ids import AccountReference, IdReader, references_in, unread_values
from proxy.formats.anthropic.account_ids import DIAGNOSTICS, VOCABULARY, MessagesIdReader
from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.request import PATH
from proxy.formats.anthropic.response import error_event
from proxy.formats.anthropic.usage import WireUsage, merged, neutral_usage, states_output, whole_usage
from proxy.formats.body import UNREADABLE, decode, decode_repaired, encode, read_safely, replace_fields
from proxy.formats.codec import Quirks
from proxy.formats.letters import check_nested
from proxy.formats.metering import EventMeter
from proxy.formats.neutral import Call, Failure, Usage, stated
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.server_tools import DEFAULT_CALLS, limit_of, objects, stated_calls
from proxy.formats.sse import between_events, data_of, name_of
from proxy.formats.tokens import tokens_in_size, tokens_in_text
from proxy.formats.unread import advisers, of_other_models, unbounded, unread_fields

MAX_TOKENS = 2**31 - 1
TOKENS_PER_ESTIMATE = 4
"""Bytes of text in a token, for an estimate that is no bound."""
TOOL_PROMPT_TOKENS = 600
SERVER_TOOL_TOKENS = 3_000
"""What the API adds to the prompt where there are tools: up to 530 tokens, and for each tool with a schema of its own up to about
2,500 (docs, "Tool use", "Pricing")."""
SERVER_TOOLS = ("web_search", "web_fetch", "code_execution")
SOURCE = ("type", "media_type", "data", "url", "file_id")
PING = b'event: ping\ndata: {"type": "ping"}\n\n'

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    stream: bool | None = None
    system: Any = None
    tools: Any = None
    output_config: Any = None
    speed: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    thread: Any = None


class Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class StartedMessage(msgspec.Struct):
    usage: WireUsage | None = None


class Block(msgspec.Struct):
    type: str = ""
    name: str = ""


class Event(msgspec.Struct):
    type: str = ""
    delta: Delta | None = None
    content_block: Block | None = None
    message: StartedMessage | None = None
    usage: WireUsage | None = None
    error: Any = None


class Answer(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()


FIELDS = frozenset(Request.__struct_fields__)
COUNTED = FIELDS - {"mcp_servers"} | {"metadata"}
TOOL_FIELDS, THREAD_FIELDS = frozenset({"type", "max_uses"}), frozenset({"type"})
WORDS = bounds.vocabulary("""
    role content type text source media_type data url title context thinking signature id name tool_use_id is_error cache_control
    ttl
""")

READ = (b"_delta", b'"usage"', b'"error"', b'"server_tool_use"')
"""What stands in the events of a stream that are decoded."""
STOP = b"message_stop"
SEARCH = Block("server_tool_use", "web_search")

decode_request = msgspec.json.Decoder(Request).decode
decode_event = msgspec.json.Decoder(Event).decode
decode_usage = msgspec.json.Decoder(WireUsage).decode
decode_content = msgspec.json.Decoder(list[dict[str, Any]]).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class AnthropicCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        self.others = others = unread_fields(body, COUNTED, FIELDS)
        check_nested(request.tools, TOOL_FIELDS, "tools.")
        check_nested(request.thread, THREAD_FIELDS, "thread.")
        bound = read_safely(lambda _: input_bound(request), body) + bounds.settings_tokens(others)
        self.call = Call(
            model=request.model,
            input_bound=bound,
            output_limit=request.max_tokens,
            stream=bool(request.stream),
            service_tier=tier_asked(request),
            tool_limits=tool_limits(request),
            unbounded=unbounded(others),
            of_other_models=of_other_models(others) + advisers(request.tools),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, output_limit: int | None, _quirks: Quirks) -> bytes:
        """What the provider gets: its own name for the model, and a limit if one is given."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if output_limit is not None:
            fields["max_tokens"] = output_limit
        return replace_fields(self.body, fields) if fields else self.body

    def keep_alive(self, passed: bytes) -> bytes:
        return PING if between_events(passed) else b""

    def meter(self) -> "StreamMeter":
        return StreamMeter()

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request)

    def references(self) -> list[AccountReference]:
        asked, others = self.request, unread_values(self.others, VOCABULARY) if self.others else {}
        return references_in([asked.messages, asked.system, asked.tools, asked.thread, others], VOCABULARY)

    def id_reader(self) -> IdReader | None:
        return MessagesIdReader(keeps_messages=self.request.thread is not None or DIAGNOSTICS in self.others)


class CountTokensCall(AnthropicCall):
    """How many tokens a prompt has. It generates nothing, and costs nothing."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        super().__init__(body)
        self.call = Call(model=self.call.model, input_bound=self.call.input_bound, output_limit=0)

    def path(self, model: str) -> str:
        return f"{PATH}/count_tokens"

    def upstream_body(self, model: str, _output_limit: int | None, quirks: Quirks) -> bytes:
        return super().upstream_body(model, None, quirks)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """The answer for providers that cannot count."""
        return encode({"input_tokens": -(-self.call.input_bound // TOKENS_PER_ESTIMATE)})


def input_bound(request: Request) -> int:
    """Tokens that the input cannot pass, but for what tools of the provider itself fetch."""
    special = partial(special_part, bounds.image_tokens(request.model))
    messages = sum(bounds.TOKENS_PER_MESSAGE + bounds.content_tokens(message, WORDS, special) for message in request.messages)
    system = bounds.content_tokens(request.system or "", WORDS, special)
    tools = request.tools if isinstance(request.tools, list) else []
    own = sum(isinstance(tool, dict) and tool.get("type") not in (None, "custom") for tool in tools)
    extras = [extra for extra in (request.tools, request.output_config) if extra is not None]
    kept = bounds.STORED_TOKENS if isinstance(request.thread, dict) and request.thread.get("type") != "create" else 0
    added = kept + TOOL_PROMPT_TOKENS * bool(tools) + SERVER_TOOL_TOKENS * own + sum(len(encode(extra)) for extra in extras)
    return bounds.TOKENS_PER_REPLY + messages + system + added


def tier_asked(request: Request) -> str:
    """A workspace can be set to the US, which costs more; a request that says `global` is not (docs, "Data residency")."""
    tier = "fast" if request.speed == "fast" else "auto"
    return f"{tier}_global" if request.inference_geo == "global" else tier


def tool_limits(request: Request) -> dict[str, int]:
    """How often Anthropic's own tools may be called: as often as their `max_uses` says (docs, "Web search tool", "Max uses")."""
    limits = {"mcp": DEFAULT_CALLS} if request.mcp_servers else {}
    for tool in objects(request.tools):
        kind = next((kind for kind in SERVER_TOOLS if str(tool.get("type")).startswith(kind)), None)
        if kind:
            limits[kind] = limits.get(kind, 0) + limit_of(tool.get("max_uses"))
    return limits


def special_part(image: int, block: dict[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """Pictures count by the vendor's formula; what only refers to something counts as the longest that it may be."""
    match block:
        case {"type": "image", "source": dict(source)}:
            return image + bounds.beside(source, SOURCE), ("type", "source")
        case {"type": "document", "source": {"type": "url" | "file"} as source}:
            return bounds.STORED_TOKENS + bounds.beside(source, SOURCE), ("source",)
        case {"file_id": str()}:
            return bounds.STORED_TOKENS, ()
        case _:
            return None


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that an answer states, if it states any, and our own count of its output tokens: by the bytes of what cannot be
    read. Each is read by itself, so that neither hides the other."""
    try:
        answer = decode_repaired(decode_answer, body)
    except UNREADABLE:
        return None, tokens_in_size(len(body))
    usage = stated(usage_in(answer.usage))
    if usage is not None:
        return usage, 0
    try:
        return None, sum(tokens_in_text(text_of(block)) for block in decode_content(answer.content))
    except UNREADABLE:
        return None, tokens_in_size(len(body))


def is_stop(event: bytes) -> bool:
    """Return whether this is the last event of a stream; a text may contain the same word."""
    if name_of(event) == STOP:
        return True
    try:
        return decode_repaired(decode_event, data_of(event)).type == STOP.decode()
    except UNREADABLE:
        return False


def usage_in(raw: msgspec.Raw) -> Usage | None:
    try:
        return whole_usage(decode_usage(raw))
    except UNREADABLE:
        return None


def text_of(block: dict[str, Any]) -> str:
    given = [block.get(name) for name in ("text", "thinking")]
    inputs = encode(block["input"]).decode() if block.get("input") else ""
    return "".join(text for text in given if isinstance(text, str)) + inputs


class StreamMeter(EventMeter):
    """Reads a stream as it passes. `output_seen` is our own count of tokens.

    The usage in the first event states the input, but not what will be generated: until one that states the output has come at the end,
    the output and the searches are what was seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reported: WireUsage | None = None
        self.searches = 0
        self.final = False

    @property
    def usage(self) -> Usage | None:
        usage = stated(neutral_usage(self.reported)) if self.reported else None
        if usage is None or self.final:
            return usage
        searches = usage.tool_calls | stated_calls(web_search=self.searches)
        output = max(usage.output, self.output_seen)
        return msgspec.structs.replace(usage, output=output, tool_calls=searches, estimated=True)

    def read(self, event: bytes) -> None:
        """Most events are pieces of text; those without text or usage are not decoded. A quote in a text has a backslash before it."""
        if STOP in event:
            self.ended = self.ended or is_stop(event)
        if not any(mark in event for mark in READ):
            return
        self.provider_failed = self.provider_failed or name_of(event) == b"error"
        try:
            parsed = decode_repaired(decode_event, data_of(event))
        except UNREADABLE:
            return
        self.provider_failed = self.provider_failed or parsed.type == "error" or parsed.error is not None
        if parsed.delta is not None:
            delta = parsed.delta
            self.count(tokens_in_text(delta.text or delta.thinking or delta.partial_json))
        if parsed.content_block == SEARCH:
            self.searches += 1
        wire = parsed.message.usage if parsed.message else parsed.usage
        if wire is not None and neutral_usage(merged(self.reported, wire)) is not None:
            self.reported = merged(self.reported, wire)
            self.final = parsed.type == "message_delta" and (self.final or states_output(wire))

    def own_error_event(self, failure: Failure, request_id: str) -> bytes:
        return error_event(failure, request_id)
