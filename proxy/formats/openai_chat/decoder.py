"""A provider's stream as neutral events (platform.openai.com/docs/api-reference/chat-streaming)."""

from typing import Any

from proxy.formats.json_body import as_dict, as_str, dict_items
from proxy.formats.neutral import (
    ApiError,
    Citation,
    Event,
    Failed,
    InvalidUpstreamResponse,
    Started,
    Usage,
    UsageReported,
)
from proxy.formats.openai_chat.choice_decoder import ChoiceDecoder
from proxy.formats.openai_chat.errors import find_error, parse_error_object
from proxy.formats.openai_chat.response import parse_response, parse_response_citations
from proxy.formats.openai_chat.usage import parse_usage
from proxy.formats.openai_chat.wire import DONE, decode_response
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED, NonEventBytes


class StreamDecoder:
    """Reads the chunks of a stream; each choice has a decoder of its own."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.choices: dict[int, ChoiceDecoder] = {}
        self.usage: Usage | None = None
        self.started = self.ended = False
        self.non_event_bytes = NonEventBytes()
        self.response_citations: list[Citation] = []

    def feed(self, data: bytes) -> list[Event]:
        try:
            for event in self.splitter.feed(data):
                self.parse_event(event)
        except EventTooLong:
            if not self.ended:
                self.fail(EVENT_TOO_LONG)
        return self.take_events()

    def finish(self) -> list[Event]:
        if rest := self.splitter.finish():
            self.parse_event(rest)
        if not self.ended:
            self.on_disconnect()
        return self.take_events()

    def take_events(self) -> list[Event]:
        events = self.events.copy()
        self.events.clear()
        return events

    def parse_event(self, event: bytes) -> None:
        if self.ended:
            return
        data = event_data(event).strip()
        if data == DONE:
            self.on_done()
        elif data.startswith(b"{"):
            self.parse_json(data)
        elif data and event.startswith(b"event: error"):
            self.fail(parse_error_object(data.decode(errors="replace"), 502))
        elif not data and not event.startswith(b":"):
            self.non_event_bytes.add(event)

    def parse_json(self, data: bytes) -> None:
        try:
            chunk = decode_response(data)
        except (ValueError, RecursionError):
            return
        # An error after the complete response does not affect it.
        if not self.is_complete and (failure := find_error(chunk)):
            self.fail(failure)
        else:
            self.parse_chunk(chunk)

    def parse_chunk(self, chunk: dict[str, Any]) -> None:
        """Read one chunk. Azure's first one holds the filter's verdict on the prompt, without any choices."""
        choices = dict_items(chunk.get("choices"))
        if choices or chunk.get("id"):
            self.emit_started(chunk)
        for choice in choices:
            index = choice.get("index")
            self.choice_decoder(index if isinstance(index, int) and index >= 0 else 0).parse(choice)
        self.response_citations = parse_response_citations(chunk) or self.response_citations
        reported = reported_usage(chunk, choices)
        if reported and (usage := parse_usage(reported, chunk.get("service_tier"))) and usage != self.usage:
            self.emit_started(chunk)
            self.usage = usage
            self.events.append(UsageReported(usage=usage))

    def emit_started(self, chunk: dict[str, Any]) -> None:
        if not self.started:
            self.started = True
            self.events.append(Started(id=as_str(chunk.get("id")), model=as_str(chunk.get("model"))))

    def choice_decoder(self, index: int) -> ChoiceDecoder:
        if index not in self.choices:
            self.choices[index] = ChoiceDecoder(index, self.events)
        return self.choices[index]

    def on_done(self) -> None:
        """Finish all choices at the end marker, even if a server left out their finish reasons."""
        if not self.started:
            self.fail(STREAM_INTERRUPTED)
            return
        for index in list(self.choices) or [0]:
            self.choice_decoder(index).finish(self.response_citations)
        self.ended = True

    def on_disconnect(self) -> None:
        """Finish or fail at the end of a connection without the end marker.

        Some servers never send the marker.
        """
        if not self.started and self.non_event_bytes.stripped:
            self.parse_complete_body(self.non_event_bytes.data)
        elif self.is_complete:
            self.on_done()
        else:
            self.fail(error_outside_events(self.non_event_bytes.data) or STREAM_INTERRUPTED)
        self.ended = True

    @property
    def is_complete(self) -> bool:
        return bool(self.choices) and all(choice.finish_wire is not None for choice in self.choices.values())

    def parse_complete_body(self, body: bytes) -> None:
        """Read a body that is not a stream: an error, or a non-streaming response."""
        try:
            response = parse_response(body)
        except InvalidUpstreamResponse as error:
            self.fail(parse_error_object(str(error), 502))
            return
        self.emit_started({"id": response.id, "model": response.model})
        for index, choice in enumerate(response.choices):
            decoder = self.choice_decoder(index)
            for part in choice.parts:
                decoder.add_part(part)
            decoder.emit_finished(choice.finish_reason, choice.stop_sequence)
        if response.usage is not None:
            self.events.append(UsageReported(usage=response.usage))

    def fail(self, error: ApiError) -> None:
        for index in self.choices:
            self.choice_decoder(index).queue.flush()
        self.events.append(Failed(error=error))
        self.ended = True


def error_outside_events(data: bytes) -> ApiError | None:
    """Return the error in a line that is not an event, as Ollama sends it, or None."""
    try:
        return find_error(decode_response(data.strip()))
    except (ValueError, RecursionError):
        return None


def reported_usage(chunk: dict[str, Any], choices: list[dict[str, Any]]) -> Any:
    """Return the usage that a chunk reports, or None.

    Groq has a field of its own for it in the last chunk (console.groq.com/docs/api-reference), and Moonshot
    reports it in the choice (platform.moonshot.ai/docs/api/chat).
    """
    reported = chunk.get("usage") or as_dict(chunk.get("x_groq")).get("usage")
    return reported or next((choice["usage"] for choice in choices if choice.get("usage")), None)
