"""Views of `/api/v1/completions`: chat completions and embeddings in a `{success, data}` envelope.

A request runs like one in OpenAI's format. Only its body is parsed differently, and a writer puts the
response into the envelope. A stream has the events of OpenAI's format. See
docs/adr/0022-envelope-as-writer.md.
"""

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from proxy import errors, gateway, operations
from proxy.formats import openai_chat
from proxy.formats.codec import ClientRequest
from proxy.formats.json_body import DECODE_ERRORS
from proxy.formats.openai_chat import envelope
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import ChunkedResponse, Headers, Response, ResponseWriter, encode
from proxy.operations import BodyOperation
from proxy.pipeline.responses import render_gateway_error

DataReader = Callable[[bytes], dict[str, Any]]
"""Reads the body of a response in OpenAI's format, and returns `data` for the client."""


class EnvelopeWriter:
    """Puts non-streaming responses and errors into the envelope."""

    def __init__(self, inner: ResponseWriter, read_data: DataReader) -> None:
        self.inner, self.read_data, self.started_at = inner, read_data, time.perf_counter()

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Pass a response on in the envelope. A cached stream is already complete, and stays as it is."""
        match response:
            case Response():
                self.inner.respond(self.enveloped(response))
            case _:
                self.inner.respond(response)

    def enveloped(self, response: Response) -> Response:
        """Return a response in the envelope: a 502 if the provider's response cannot be read."""
        if response.status >= 400:
            return enveloped_error(response)
        headers = {**response.headers, "content-type": "application/json"}
        try:
            data = self.read_data(response.body)
        except DECODE_ERRORS as error:
            failure = errors.invalid_upstream_response("The provider", str(error))
            body = openai_chat.render_error(failure.api_error, headers.get("x-request-id", ""))
            headers[errors.ERROR_TYPE_HEADER] = failure.api_error.kind
            return enveloped_error(Response(failure.status, headers, body))
        data |= envelope.accounting_data(
            headers.get("x-cost-usd", "0"),
            cached=headers.get("x-gateway-cache") == "hit",
            latency_s=time.perf_counter() - self.started_at,
        )
        return Response(response.status, headers, encode({"success": True, "data": data}))

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        await self.inner.start_stream(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        await self.inner.write(chunk)

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.inner.abandon()

    async def finish(self, *, succeeded: bool) -> None:
        """Complete the response for the client."""
        await self.inner.finish(succeeded=succeeded)


def enveloped_error(response: Response) -> Response:
    """Return an error of OpenAI's format, of the gateway or of a provider, in the envelope."""
    headers = {**response.headers, "content-type": "application/json"}
    error = openai_chat.parse_error(response.status, response.body)
    kind = headers.get(errors.ERROR_TYPE_HEADER, error.kind)
    body = render_gateway_error(replace(error, kind=kind), headers.get("x-request-id", ""))
    return Response(response.status, headers, body)


def enveloped(operation: BodyOperation[ClientRequest], read_data: DataReader) -> GatewayView:
    """Return the view of an operation whose responses have the envelope."""

    async def run(request: GatewayRequest, writer: ResponseWriter) -> None:
        await gateway.handle(request, EnvelopeWriter(writer, read_data), operation)

    return GatewayView(operation, run)


chat = enveloped(operations.ENVELOPED_CHAT, envelope.chat_data)
embeddings = enveloped(operations.ENVELOPED_EMBEDDINGS, envelope.embedding_data)
