"""Messages between the agents of a Responses client, whose payload OpenAI may have encrypted."""

import json

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import UnsupportedFeature
from proxy.formats.openai_responses.seals import without_seals
from tests.proxy.formats.conversion.test_dropped_fields import convert_request
from tests.proxy.formats.golden.builders import Body, openai_responses_request
from tests.proxy.formats.golden.cells import encode_body

OTHERS = ("openai_chat", "anthropic", "gemini")
HEADER = {"type": "input_text", "text": "Task: "}


def message(payload: str) -> Body:
    return {
        "type": "agent_message",
        "id": "amsg_1",
        "author": "lead",
        "recipient": "lead/sub",
        "content": [HEADER, {"type": "encrypted_content", "encrypted_content": payload}],
    }


@pytest.mark.parametrize("provider", OTHERS)
def test_payload_of_another_vendor_is_a_text(provider: str) -> None:
    """The payload is the plain text of an argument that OpenAI would have encrypted."""
    body = convert_request(
        "openai_responses", provider, openai_responses_request(message("Count the files."))
    ).body
    assert "Message from lead to lead/sub:\\nTask: Count the files." in json.dumps(body)


@pytest.mark.parametrize("provider", OTHERS)
def test_payload_that_openai_has_encrypted_is_rejected(provider: str) -> None:
    with pytest.raises(UnsupportedFeature, match="agent_message"):
        convert_request("openai_responses", provider, openai_responses_request(message("gAAAAABo")))


def test_openai_gets_the_payload_of_another_vendor_as_a_text() -> None:
    body = openai_responses_request(message("Count the files."), message("gAAAAABo"))
    changed, _ = without_seals(encode_body(body), body, Destination("openai", "openai_responses", "m"))
    plain, encrypted = json.loads(changed)["input"]
    assert plain["content"] == [HEADER, {"type": "input_text", "text": "Count the files."}]
    assert encrypted == message("gAAAAABo")
