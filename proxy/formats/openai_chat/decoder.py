"""Decoder of streams of chat completions.

Source: platform.openai.com/docs/api-reference/chat-streaming.
"""

from typing import Any

from proxy.formats.json_body import DECODE_ERRORS, as_str, decode_available_fields, dict_items
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
from proxy.formats.openai_chat.usage import StreamUsage
from proxy.formats.openai_chat.wire import DONE, decode_response
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED, NonEventBytes


class StreamDecoder:
    """Decodes the chunks of a stream. Each choice has its own decoder."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.choices: dict[int, ChoiceDecoder] = {}
        self.usage_reader = StreamUsage()
        self.usage: Usage | None = None
        self.started = self.ended = self.failed = False
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
        """Parse one event. After [DONE], only usage is read, because some servers report it there."""
        data = event_data(event).strip()
        if data.startswith(b"{"):
            self.parse_json(data)
        elif self.ended:
            return
        elif data == DONE:
            self.on_done()
        elif data and event.startswith(b"event: error"):
            self.fail(parse_error_object(data.decode(errors="replace"), 502))
        elif not data and not event.startswith(b":"):
            self.non_event_bytes.add(event)

    def parse_json(self, data: bytes) -> None:
        try:
            chunk = decode_available_fields(data)
        except DECODE_ERRORS:
            return
        self.usage_reader.read(chunk)
        # An error after the complete response does not affect it.
        failure = None if self.ended or self.is_complete else find_error(chunk)
        if failure:
            self.fail(failure)
        elif not self.ended:
            self.parse_chunk(chunk)
        self.emit_usage(chunk)

    def parse_chunk(self, chunk: dict[str, Any]) -> None:
        """Parse one chunk.

        The first chunk of Azure contains results of the content filter for the prompt, and no choices.
        """
        choices = dict_items(chunk.get("choices"))
        if choices or chunk.get("id"):
            self.emit_started(chunk)
        for choice in choices:
            index = choice.get("index")
            self.choice_decoder(index if isinstance(index, int) and index >= 0 else 0).parse(choice)
        self.response_citations = parse_response_citations(chunk) or self.response_citations

    def emit_usage(self, chunk: dict[str, Any]) -> None:
        """Emit the usage if the chunk changed it. After a failure, the client gets no more events."""
        usage = self.usage_reader.last_usage
        if usage is not None and usage != self.usage and not self.failed:
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
        """Finish all choices at [DONE], even if a server did not send their finish reasons."""
        if not self.started:
            self.fail(STREAM_INTERRUPTED)
            return
        for index in list(self.choices) or [0]:
            self.choice_decoder(index).finish(self.response_citations)
        self.ended = True

    def on_disconnect(self) -> None:
        """Finish or fail if the connection ends without [DONE].

        Some servers never send [DONE].
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
        """Parse a body that is not a stream: an error, or a non-streaming response."""
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
        self.usage_reader.read(decode_available_fields(body))
        self.emit_usage({})

    def fail(self, error: ApiError) -> None:
        for index in self.choices:
            self.choice_decoder(index).queue.flush()
        self.events.append(Failed(error=error))
        self.ended = self.failed = True


def error_outside_events(data: bytes) -> ApiError | None:
    """Return the error in a line that is not an event, or None. Ollama sends errors in this way."""
    try:
        return find_error(decode_response(data.strip()))
    except (ValueError, RecursionError):
        return None
