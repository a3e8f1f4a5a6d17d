"""The writer of responses: a response is complete only when its request has ended."""

import pytest

from proxy.http.asgi import ASGIMessage
from proxy.http.responses import AsgiWriter, ChunkedResponse, Response


@pytest.fixture
def sent() -> list[ASGIMessage]:
    return []


@pytest.fixture
def writer(sent: list[ASGIMessage]) -> AsgiWriter:
    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    return AsgiWriter(send)


async def test_a_response_is_sent_at_the_end(writer: AsgiWriter, sent: list[ASGIMessage]) -> None:
    writer.respond(Response(200, {"x-a": "b"}, b"body"))
    assert not sent
    await writer.finish(succeeded=True)
    start, body = sent
    assert (start["status"], dict(start["headers"])) == (200, {b"x-a": b"b", b"content-length": b"4"})
    assert (body["body"], body["more_body"]) == (b"body", False)


async def test_a_stream_is_sent_at_once_and_ended_at_the_end(
    writer: AsgiWriter, sent: list[ASGIMessage]
) -> None:
    await writer.start_stream(200, {})
    await writer.write(b"chunk")
    assert [message.get("body") for message in sent] == [None, b"chunk"]
    await writer.finish(succeeded=True)
    assert not sent[-1]["more_body"]


async def test_an_abandoned_stream_has_no_end(writer: AsgiWriter, sent: list[ASGIMessage]) -> None:
    await writer.start_stream(200, {})
    writer.abandon()
    await writer.finish(succeeded=False)
    assert len(sent) == 1


async def test_an_error_does_not_replace_a_stream_that_has_begun(
    writer: AsgiWriter, sent: list[ASGIMessage]
) -> None:
    await writer.start_stream(200, {})
    writer.respond(Response(500, {}, b"error"))
    await writer.finish(succeeded=False)
    assert [message["status"] for message in sent] == [200]


async def test_a_stored_stream_is_sent_in_its_chunks(writer: AsgiWriter, sent: list[ASGIMessage]) -> None:
    writer.respond(ChunkedResponse(200, {}, [b"a", b"b"]))
    await writer.finish(succeeded=True)
    assert [message.get("body") for message in sent] == [None, b"a", b"b", b""]
