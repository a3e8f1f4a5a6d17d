"""The response writer that captures a response for the prompt log while it passes it on."""

from proxy.formats.codec import ClientRequest
from proxy.http.responses import ChunkedResponse, Headers, Response, ResponseWriter
from proxy.pipeline.parse import Parsed
from proxy.prompt_log.capture import Capture
from proxy.prompt_log.policy import policy_for
from proxy.prompt_log.writer import PromptLogWriter, prompt_log_writer


class CapturingWriter:
    """Writes a response to the client, and captures it."""

    def __init__(self, inner: ResponseWriter, capture: Capture, log: PromptLogWriter) -> None:
        self.inner, self.capture, self.log = inner, capture, log

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Capture a non-streaming response, and pass it on."""
        self._begin(response.headers)
        for chunk in response.chunks:
            self.capture.add(chunk, self.log.executor)
        self.inner.respond(response)

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        self._begin(headers)
        await self.inner.start_stream(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        self.capture.add(chunk, self.log.executor)
        await self.inner.write(chunk)

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.capture.is_interrupted = True
        self.inner.abandon()

    async def finish(self, *, succeeded: bool) -> None:
        """Queue the entry of the log, and complete the response for the client."""
        if self.capture.stream is not None and not succeeded:
            self.capture.is_interrupted = True
        self.log.submit(self.capture)
        await self.inner.finish(succeeded=succeeded)

    def _begin(self, headers: Headers) -> None:
        if "event-stream" in headers.get("content-type", ""):
            self.capture.start_stream()


async def capturing_writer(parsed: Parsed[ClientRequest], writer: ResponseWriter) -> ResponseWriter:
    """Return a writer that also captures the request and its response, if they are logged."""
    caller, metadata = parsed.caller, parsed.metadata
    if not metadata.is_logged or (policy := await policy_for(caller.principal.project_id)) is None:
        return writer
    client_request = parsed.client_request
    capture = Capture(
        caller.received.id,
        caller.principal.project_id,
        policy,
        client_request.fields,
        len(client_request.body),
        metadata.end_users,
    )
    return CapturingWriter(writer, capture, prompt_log_writer)
