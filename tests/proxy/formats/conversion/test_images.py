"""Generated images for clients whose SDKs decode them."""

import json
from typing import Any

import pytest
from google.genai.types import GenerateContentResponse

from proxy.formats import gemini, openai_responses
from proxy.formats.neutral import Image, Message, Opaque, PartStarted, Request, Text

CLIENT = Request(model="m", messages=(Message(role="user", parts=(Text(text="A cat"),)),), stream=True)


def response(result: str) -> dict[str, Any]:
    made = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": result}
    return {"id": "resp_1", "model": "m", "status": "completed", "output": [made], "usage": None}


def stream(result: str) -> bytes:
    complete = response(result)
    events = [
        {"type": "response.created", "response": {**complete, "output": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": complete["output"][0]},
        {"type": "response.completed", "response": complete},
    ]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def read_by_gemini_sdk(result: str) -> list[GenerateContentResponse]:
    decoder, encoder = openai_responses.parse_stream(), gemini.render_stream(CLIENT)
    wire = (
        b"".join(encoder.encode(event) for event in [*decoder.feed(stream(result)), *decoder.finish()])
        + encoder.finish()
    )
    return [
        GenerateContentResponse.model_validate_json(event.removeprefix(b"data: "))
        for event in wire.split(b"\r\n\r\n")
        if event
    ]


def test_image_reaches_the_google_sdk() -> None:
    parts = [part for chunk in read_by_gemini_sdk("aW1n") for part in chunk.candidates[0].content.parts or []]  # type: ignore[index, union-attr]
    assert [part.inline_data.data for part in parts if part.inline_data] == [b"img"]


@pytest.mark.parametrize("result", ["i", "aW1", "not base64", "<redacted>"])
def test_invalid_image_does_not_break_the_response(result: str) -> None:
    assert read_by_gemini_sdk(result)[-1].candidates
    (choice,) = openai_responses.parse_response(json.dumps(response(result)).encode()).choices
    assert isinstance(choice.parts[0], Opaque) and choice.parts[0].value["result"] == result


def test_image_media_type_is_detected_from_its_bytes() -> None:
    started = [
        event
        for event in openai_responses.parse_stream().feed(stream("aW1n"))
        if isinstance(event, PartStarted)
    ]
    assert started[0].part == Image(media_type="image/png", data="aW1n")
