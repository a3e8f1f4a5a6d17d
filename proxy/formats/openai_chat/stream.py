"""Streams of OpenAI Chat Completions (platform.openai.com/docs/api-reference/chat-streaming)."""

import time
from typing import Any, assert_never

from proxy.formats.body import encode
from proxy.formats.neutral import (
    BadAnswer,
    Citation,
    Event,
    Failed,
    Failure,
    Finished,
    Image,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Request,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageSeen,
)
from proxy.formats.openai_chat.lane import Lane
from proxy.formats.openai_chat.message import object_of, text_of
from proxy.formats.openai_chat.response import (
    SPOKEN,
    answer_id,
    custom_tools,
    decode_answer,
    error_event,
    failure_in,
    failure_of,
    free_text,
    parse_response,
    sources_of,
    wire_annotation,
    wire_finish,
    wire_image_part,
)
from proxy.formats.openai_chat.signatures import OWN, detail_of, google_content, listed, mark
from proxy.formats.openai_chat.usage import read_usage, wire_usage
from proxy.formats.sse import TOO_LONG, EventSplitter, EventTooLong, data_of

DONE = b"[DONE]"
LONGEST_STRAY = 1 << 20
BROKEN_OFF = Failure(kind="network", code="upstream_unreachable", message="The provider's answer broke off before its end.", status=502)


# Reading ------------------------------------------------------------------------------------------------------------------


class StreamDecoder:
    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.lanes: dict[int, Lane] = {}
        self.usage: Usage | None = None
        self.started = self.ended = False
        self.strays = b""
        self.sources: list[Citation] = []

    def feed(self, data: bytes) -> list[Event]:
        try:
            for event in self.splitter.feed(data):
                self.read(event)
        except EventTooLong:
            if not self.ended:
                self.fail(TOO_LONG)
        return self.taken()

    def finish(self) -> list[Event]:
        if rest := self.splitter.finish():
            self.read(rest)
        if not self.ended:
            self.break_off()
        return self.taken()

    def taken(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def read(self, event: bytes) -> None:
        if self.ended:
            return
        data = data_of(event).strip()
        if data == DONE:
            self.end()
        elif data.startswith(b"{"):
            self.read_json(data)
        elif data and event.startswith(b"event: error"):
            self.fail(failure_of(data.decode(errors="replace"), 502))
        elif not data and not event.startswith(b":"):
            self.strays = (self.strays + event)[:LONGEST_STRAY]

    def read_json(self, data: bytes) -> None:
        try:
            chunk = decode_answer(data)
        except (ValueError, RecursionError):
            return
        # What comes after a complete answer does not spoil it.
        if not self.complete and (failure := failure_in(chunk)):
            self.fail(failure)
        else:
            self.read_chunk(chunk)

    def read_chunk(self, chunk: dict[str, Any]) -> None:
        """Azure's first chunk holds the verdict on the prompt, and neither an id nor choices."""
        choices = listed(chunk.get("choices"))
        if choices or chunk.get("id"):
            self.start(chunk)
        for choice in choices:
            index = choice.get("index")
            self.lane(index if isinstance(index, int) and index >= 0 else 0).read(choice)
        self.sources = sources_of(chunk) or self.sources
        stated = stated_in(chunk, choices)
        if stated and (usage := read_usage(stated, chunk.get("service_tier"))) and usage != self.usage:
            self.start(chunk)
            self.usage = usage
            self.events.append(UsageSeen(usage=usage))

    def start(self, chunk: dict[str, Any]) -> None:
        if not self.started:
            self.started = True
            self.events.append(Started(id=text_of(chunk.get("id")), model=text_of(chunk.get("model"))))

    def lane(self, index: int) -> Lane:
        if index not in self.lanes:
            self.lanes[index] = Lane(index, self.events)
        lane = self.lanes[index]
        lane.events = self.events
        return lane

    def end(self) -> None:
        """At the end marker: what a server left unfinished is finished all the same."""
        if not self.started:
            self.fail(BROKEN_OFF)
            return
        for index in list(self.lanes) or [0]:
            self.lane(index).conclude(self.sources)
        self.ended = True

    def break_off(self) -> None:
        """At the end of a connection without the end marker, which some servers never send."""
        if not self.started and self.strays.strip():
            self.read_whole(self.strays)
        elif self.complete:
            self.end()
        else:
            self.fail(bare_failure(self.strays) or BROKEN_OFF)
        self.ended = True

    @property
    def complete(self) -> bool:
        return bool(self.lanes) and all(lane.reason is not None for lane in self.lanes.values())

    def read_whole(self, body: bytes) -> None:
        """A body that is no stream: an error, or an answer in one piece from a server that does not stream."""
        try:
            response = parse_response(body)
        except BadAnswer as error:
            self.fail(failure_of(str(error), 502))
            return
        self.start({"id": response.id, "model": response.model})
        for index, choice in enumerate(response.choices):
            lane = self.lane(index)
            for part in choice.parts:
                lane.add(part)
            lane.end(choice.finish, choice.stop_sequence)
        if response.usage is not None:
            self.events.append(UsageSeen(usage=response.usage))

    def fail(self, failure: Failure) -> None:
        for index in self.lanes:
            self.lane(index).flush()
        self.events.append(Failed(failure=failure))
        self.ended = True


def bare_failure(strays: bytes) -> Failure | None:
    """Why a stream ended, from a server that says so in a line which is no event, as Ollama does."""
    try:
        return failure_in(decode_answer(strays.strip()))
    except (ValueError, RecursionError):
        return None


def stated_in(chunk: dict[str, Any], choices: list[dict[str, Any]]) -> Any:
    """The usage in a chunk. Groq has a place of its own for it in the last one (console.groq.com/docs/api-reference), and Moonshot
    states it in the choice (platform.moonshot.ai/docs/api/chat)."""
    stated = chunk.get("usage") or object_of(chunk.get("x_groq")).get("usage")
    return stated or next((choice["usage"] for choice in choices if choice.get("usage")), None)


# Writing ------------------------------------------------------------------------------------------------------------------


class StreamEncoder:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.custom = custom_tools(request)
        self.head = b""
        self.tail = b',"usage":null}\n\n' if request.wants_usage else b"}\n\n"
        self.usage: Usage | None = None
        self.failed = False
        self.open: dict[int, Spoken] = {}
        self.calls: dict[int, int] = {}
        self.said: dict[int, int] = {}
        self.finished: set[int] = set()

    def encode(self, event: Event) -> bytes:
        match event:
            case PartDelta():
                return self.more(event)
            case PartStarted():
                return self.begin(event.choice, event.part)
            case PartSigned():
                return self.sign(event)
            case PartCited():
                return self.cite(event)
            case PartEnded():
                return self.close(event)
            case Started():
                return self.start(event)
            case Finished():
                return self.end(event)
            case UsageSeen():
                self.usage = event.usage
                return b""
            case Failed():
                return self.error_event(event.failure, "")
            case _:
                assert_never(event)

    def finish(self) -> bytes:
        """The chunk with the usage, if the client asked for it, and the end marker: an answer that failed has neither."""
        if self.failed or not self.head:
            return b""
        usage = b""
        if self.request.wants_usage and self.usage is not None:
            usage = self.head + b'],"usage":' + encode(wire_usage(self.usage)) + b"}\n\n"
        return usage + b"data: " + DONE + b"\n\n"

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        self.failed = True
        return error_event(failure, request_id)

    def start(self, event: Started) -> bytes:
        """Id, time and model stay the same in all chunks; the first of each choice names the role."""
        if self.head:
            return b""
        head = {"id": answer_id(event.id), "object": "chat.completion.chunk", "created": int(time.time())}
        head |= {"model": event.model or self.request.model, "system_fingerprint": None}
        self.head = b"data: " + encode(head)[:-1] + b',"choices":['
        return self.role(0)

    def role(self, choice: int) -> bytes:
        self.calls[choice] = 0
        return self.chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def chunk(self, choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: tuple[Any, ...] = ()) -> bytes:
        wire = {
            "index": choice,
            "delta": delta,
            "logprobs": {"content": list(logprobs), "refusal": None} if logprobs else None,
            "finish_reason": finish,
        }
        return self.head + encode(wire) + b"]" + self.tail

    def begin(self, choice: int, part: Part) -> bytes:
        role = b"" if choice in self.calls else self.role(choice)
        if choice in self.finished:
            return b""
        self.open[choice] = spoken = self.spoken(choice, part)
        first = spoken.first()
        return role + self.chunk(choice, first) if first else role

    def spoken(self, choice: int, part: Part) -> "Spoken":
        if not isinstance(part, ToolCall):
            return Spoken(part)
        index = self.calls[choice]
        self.calls[choice] += 1
        return SpokenCall(part, index, custom=part.name in self.custom)

    def more(self, event: PartDelta) -> bytes:
        spoken = self.open.get(event.choice)
        delta = spoken.more(event.text) if spoken and event.choice not in self.finished else None
        return self.chunk(event.choice, delta, logprobs=event.logprobs) if delta else b""

    def sign(self, event: PartSigned) -> bytes:
        spoken = self.open.get(event.choice)
        delta = spoken.signed(event.signature) if spoken else None
        return self.chunk(event.choice, delta) if delta else b""

    def cite(self, event: PartCited) -> bytes:
        spoken = self.open.get(event.choice)
        if spoken is None:
            return b""
        annotation = wire_annotation(event.citation, self.said.get(event.choice, 0), spoken.length)
        return self.chunk(event.choice, {"annotations": [annotation]})

    def close(self, event: PartEnded) -> bytes:
        spoken = self.open.pop(event.choice, None)
        if spoken and spoken.length:
            self.said[event.choice] = self.said.get(event.choice, 0) + spoken.length
        delta = spoken.last() if spoken else None
        return self.chunk(event.choice, delta) if delta else b""

    def end(self, event: Finished) -> bytes:
        if event.choice in self.finished:
            return b""
        role = b"" if event.choice in self.calls else self.role(event.choice)
        self.finished.add(event.choice)
        return role + self.chunk(event.choice, {}, wire_finish(event.finish))


class Spoken:
    """The open part of a choice, as deltas. `length`: characters of text in it so far."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.length = 0

    def first(self) -> dict[str, Any] | None:
        match self.part:
            case Text() | Refusal():
                return self.more(self.part.text)
            case Thinking() if self.part.redacted is not None:
                return {"reasoning_details": [detail_of(self.part)]}
            case Thinking():
                return self.more(self.part.text)
            case Image():
                return {"images": [wire_image_part(self.part)]}
            case Opaque(origin="openai_chat", what=what, value=value) if what == SPOKEN:
                return {"audio": value}
            case _:
                return None  # what other providers' own tools did is not for this client

    def more(self, text: str) -> dict[str, Any] | None:
        match self.part:
            case Text() if text:
                self.length += len(text)
                return {"content": text}
            case Thinking() if text:
                return {"reasoning_content": text}
            case Refusal() if text:
                return {"refusal": text}
            case _:
                return None

    def signed(self, signature: str) -> dict[str, Any] | None:
        match self.part:
            case Thinking(origin=origin) if origin == OWN:
                return {"reasoning_details": [detail_of(Thinking(signature=signature, origin=OWN))]}
            case Thinking(origin=origin):
                return {"reasoning_signature": mark(origin, signature)}
            case _:
                return None

    def last(self) -> dict[str, Any] | None:
        return None


class SpokenCall(Spoken):
    """`index` counts the calls of the choice. `custom`: the client declared the tool as custom, whatever it is at the provider; a
    function's arguments then become free text, and the other way round."""

    def __init__(self, call: ToolCall, index: int, *, custom: bool) -> None:
        super().__init__(call)
        self.call, self.index, self.custom = call, index, custom
        self.unwraps, self.wraps = custom and not call.custom, call.custom and not custom
        self.text = ""

    def first(self) -> dict[str, Any] | None:
        kind, field = ("custom", "input") if self.custom else ("function", "arguments")
        self.text = self.call.arguments
        known = '{"input":"' + escaped(self.text) if self.wraps else "" if self.unwraps else self.text
        return self.fragment({"id": self.call.id, "type": kind, kind: {"name": self.call.name, field: known}})

    def more(self, text: str) -> dict[str, Any] | None:
        self.text += text
        if self.unwraps or not text:
            return None
        return self.continued(escaped(text) if self.wraps else text)

    def continued(self, text: str) -> dict[str, Any]:
        return self.fragment({"custom": {"input": text}} if self.custom else {"function": {"arguments": text}})

    def fragment(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"tool_calls": [{"index": self.index, **fields}]}

    def signed(self, signature: str) -> dict[str, Any] | None:
        """OpenAI's SDK insists on a function in every fragment."""
        nothing = {"custom": {"input": ""}} if self.custom else {"function": {"arguments": ""}}
        return self.fragment({**nothing, "extra_content": google_content(self.call.origin, signature)})

    def last(self) -> dict[str, Any] | None:
        """A function without arguments is called with none: clients parse them as JSON."""
        if self.wraps:
            return self.continued('"}')
        if self.unwraps:
            return self.continued(free_text(self.text))
        return None if self.text or self.custom else self.continued("{}")


def escaped(text: str) -> str:
    """A piece of a text, as it stands inside a JSON string."""
    return encode(text).decode()[1:-1]
