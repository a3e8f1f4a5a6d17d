"""Streams of streamGenerateContent: each event is a whole answer that holds what is new, in lines that end in CRLF."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.body import mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.gemini.arguments import PartialCall, is_partial
from proxy.formats.gemini.encoder import StreamEncoder
from proxy.formats.gemini.errors import error_in, parse_error
from proxy.formats.gemini.grounding import Grounded, read_citations
from proxy.formats.gemini.parts import ORIGIN
from proxy.formats.gemini.response import (
    Answer,
    Candidate,
    made_id,
    notes_of,
    read_answers,
    read_finish,
    read_logprobs,
    readable_parts,
)
from proxy.formats.gemini.usage import counts_in, merged, shown_usage, with_services
from proxy.formats.neutral import (
    Event,
    Failed,
    Failure,
    Finished,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageSeen,
)
from proxy.formats.sse import TOO_LONG, EventSplitter, EventTooLong, data_of
from proxy.formats.tokens import tokens_in_text

__all__ = ["StreamDecoder", "StreamEncoder"]

LONGEST_STRAY = 1 << 20
BAD_GATEWAY = 502
BROKEN_OFF = Failure(kind="network", code="upstream_unreachable", message="The provider's answer broke off.", status=BAD_GATEWAY)
NO_STREAM = Failure(kind="server_error", code="bad_upstream_answer", message="The provider's answer is no stream.", status=BAD_GATEWAY)


class StreamDecoder:
    """Google ends an answer with the connection, and older models name a finish reason in every chunk: what finished is known at
    the end only."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.choices: dict[int, ChoiceReader] = {}
        self.counts: dict[str, int] = {}
        self.metadata: dict[str, Any] = {}
        self.grounded = Grounded()
        self.output_seen = 0
        self.usage: Usage | None = None
        self.final = False
        """The usage of the end has come."""
        self.started = self.failed = self.judged = self.blocked = False
        self.stray = b""

    def feed(self, data: bytes) -> list[Event]:
        try:
            return [event for raw in self.splitter.feed(data) for event in self.read_event(raw)]
        except EventTooLong:
            return [] if self.failed else [self.fail(TOO_LONG)]

    def finish(self) -> list[Event]:
        rest = self.splitter.finish()
        events = list(self.read_event(rest)) if rest else []
        if not self.started and not self.failed:
            events += self.read_stray()
        return events if self.failed else [*events, *self.end()]

    def read_event(self, raw: bytes) -> Iterator[Event]:
        data = mended(data_of(raw))
        if self.failed:
            return
        if not data:
            self.keep_stray(raw)
            return
        try:
            answers = read_answers(data)
        except (msgspec.DecodeError, RecursionError, ValueError):
            self.keep_stray(data)
            return
        for answer in answers:
            yield from self.read_answer(answer, data)

    def keep_stray(self, raw: bytes) -> None:
        """What is no event may be an error's body, told at the end if nothing else came."""
        if not raw.startswith(b":") and len(self.stray) < LONGEST_STRAY:
            self.stray += raw

    def read_stray(self) -> Iterator[Event]:
        """A body that is no stream: a JSON array of chunks, or an error."""
        try:
            answers = read_answers(mended(self.stray))
        except (msgspec.DecodeError, RecursionError, ValueError):
            answers = []
        for answer in answers:
            yield from self.read_answer(answer, self.stray)
        if not self.started and not self.failed and self.stray.strip():
            yield self.fail(parse_error(BAD_GATEWAY, self.stray) if error_in(self.stray) else NO_STREAM)

    def read_answer(self, answer: Answer, data: bytes) -> Iterator[Event]:
        if self.failed:
            return
        if answer.error:
            yield self.fail(parse_error(200, data))
            return
        if answer == Answer():
            self.keep_stray(data)
            return
        if not self.started:
            self.started = True
            yield Started(id=answer.response_id or made_id(), model=answer.model_version or "")
        self.judged = self.judged or answer.prompt_feedback is not None
        self.blocked = self.blocked or answer.is_blocked
        for candidate in answer.candidates or ():
            index = candidate.index or 0
            self.grounded.read(candidate.grounding_metadata)
            reader = self.choices.setdefault(index, ChoiceReader(index))
            for event in reader.read(candidate):
                self.output_seen += tokens_in_text(event.text) if isinstance(event, PartDelta) else 0
                yield event
        yield from self.read_usage(answer.usage_metadata)

    def read_usage(self, metadata: Any) -> Iterator[Event]:
        """Until the answer has finished, what is stated of the output may lag behind what has come."""
        self.counts = merged(self.counts, metadata)
        self.metadata |= metadata if isinstance(metadata, dict) else {}
        if metadata is not None:
            self.final = self.is_complete and bool(counts_in(metadata))
        usage = with_services(shown_usage(self.counts, metadata, self.blocked), self.metadata, self.grounded)
        if usage is not None and not self.final:
            usage = replace(usage, output=max(usage.output, self.output_seen), estimated=True)
        if usage is not None and usage != self.usage:
            self.usage = usage
            yield UsageSeen(usage=usage)

    def fail(self, failure: Failure) -> Failed:
        self.failed = True
        return Failed(failure=failure)

    def end(self) -> Iterator[Event]:
        for reader in self.choices.values():
            yield from reader.close()
        if not self.is_complete:
            yield self.fail(parse_error(200, self.stray) if error_in(self.stray) else BROKEN_OFF)
            return
        for reader in self.choices.values() or (ChoiceReader(0),):
            yield from reader.end(self.blocked)

    @property
    def is_complete(self) -> bool:
        """A finish reason ends an answer. To a prompt that it blocks, or has judged and says nothing to, Gemini gives none."""
        if self.choices and all(reader.reason for reader in self.choices.values()):
            return True
        return self.blocked or (self.judged and not any(reader.index >= 0 for reader in self.choices.values()))


class ChoiceReader:
    """One candidate of a stream: which part is open, and what is to be said at its end."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.index = -1
        self.open: Text | Thinking | None = None
        self.partial: PartialCall | None = None
        self.texts: list[list[str]] = []
        self.reason: str | None = None
        self.has_calls = False
        self.call_ids: set[str] = set()
        self.notes: dict[str, Opaque] = {}

    def read(self, candidate: Candidate) -> Iterator[Event]:
        logprobs = read_logprobs(candidate.logprobs_result)
        self.notes |= {note.what: note for note in notes_of(candidate)}
        for item in (candidate.content and candidate.content.parts) or ():
            yield from self.read_item(item, logprobs)
        self.reason = candidate.finish_reason or self.reason

    def read_item(self, item: dict[str, Any], logprobs: tuple[Any, ...]) -> Iterator[Event]:
        if is_partial(item, self.partial):
            yield from self.read_partial(item)
            return
        parts = readable_parts(item)
        if len(parts) == 2 and isinstance(parts[1], Text) and isinstance(self.open, Text):
            parts.reverse()
        for part in parts:
            yield from self.read_part(part, logprobs)

    def read_partial(self, item: dict[str, Any]) -> Iterator[Event]:
        """A call whose arguments come piece by piece is told when it is complete."""
        call = item["functionCall"]
        if self.partial is None or call.get("name"):
            yield from self.flush_partial()
            self.partial = PartialCall(item)
        if self.partial.add(call):
            yield from self.flush_partial()

    def flush_partial(self) -> Iterator[Event]:
        partial, self.partial = self.partial, None
        if partial is not None:
            for part in readable_parts(partial.whole()):
                yield from self.read_part(part, ())

    def read_part(self, part: Part, logprobs: tuple[Any, ...]) -> Iterator[Event]:
        yield from self.flush_partial()
        match part:
            case Text():
                yield from self.reopen(part, Text())
                self.texts[-1].append(part.text)
                yield PartDelta(choice=self.choice, index=self.index, text=part.text, logprobs=logprobs)
            case Thinking():
                yield from self.reopen(part, Thinking(redacted=part.redacted, origin=part.origin))
                yield from self.read_thought(part)
            case ToolCall():
                yield from self.read_call(part)
            case _:
                yield from self.start(part)
                yield PartEnded(choice=self.choice, index=self.index)

    def reopen(self, part: Text | Thinking, empty: Text | Thinking) -> Iterator[Event]:
        """Text goes on in the open text, a thought in the open thought; a signature that came alone is not of the thought before."""
        if type(self.open) is type(part) and not (isinstance(part, Thinking) and not part.text and part.origin == ORIGIN):
            return
        yield from self.start(empty)
        self.open = empty
        if isinstance(part, Text):
            self.texts.append([])

    def read_thought(self, part: Thinking) -> Iterator[Event]:
        if part.text:
            yield PartDelta(choice=self.choice, index=self.index, text=part.text)
        if part.signature:
            yield PartSigned(choice=self.choice, index=self.index, signature=part.signature)
        if part.signature or part.redacted is not None:
            yield from self.close()

    def read_call(self, call: ToolCall) -> Iterator[Event]:
        self.has_calls = True
        call_id = fresh_call_id(call.id, self.call_ids)
        yield from self.start(msgspec.structs.replace(call, id=call_id, arguments="", signature=None))
        if call.signature:
            yield PartSigned(choice=self.choice, index=self.index, signature=call.signature)
        if call.arguments:
            yield PartDelta(choice=self.choice, index=self.index, text=call.arguments)
        yield PartEnded(choice=self.choice, index=self.index)

    def start(self, part: Part) -> Iterator[Event]:
        yield from self.close()
        self.index += 1
        yield PartStarted(choice=self.choice, index=self.index, part=part)

    def close(self) -> Iterator[Event]:
        yield from self.flush_partial()
        if self.open is not None:
            if isinstance(self.open, Text):
                yield from self.cite()
            self.open = None
            yield PartEnded(choice=self.choice, index=self.index)

    def cite(self) -> Iterator[Event]:
        """The sources known when a text ends: Google names them with the last words of an answer."""
        if note := self.notes.get("groundingMetadata"):
            for citation in read_citations(note.value, ["".join(pieces) for pieces in self.texts])[-1]:
                yield PartCited(choice=self.choice, index=self.index, citation=citation)

    def end(self, blocked: bool) -> Iterator[Event]:
        for note in self.notes.values():
            yield from self.start(note)
            yield PartEnded(choice=self.choice, index=self.index)
        finish = "content_filter" if blocked else read_finish(self.reason, self.has_calls, self.index >= 0)
        yield Finished(choice=self.choice, finish=finish)
