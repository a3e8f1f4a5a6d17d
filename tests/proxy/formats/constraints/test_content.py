"""Adaptation of messages to a destination: roles, fields, media and prompt cache breakpoints."""

import base64
import json
from typing import Any

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.content import BRIDGE_TEXT, CONTINUE_TEXT
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    File,
    Image,
    Message,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from proxy.formats.registry import CODECS
from tests.proxy.formats.constraints.adaptations import HI, OBJECT, adapted, chat, claude, gemini, responses
from tests.proxy.formats.constraints.vendors import render_for

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
JPEG = b"\xff\xd8\xff\xe0" + bytes(24)
EACH_FORMAT = [chat("gpt-4o"), responses("gpt-5"), claude(), gemini()]
CALL = ToolCall(id="call_1", name="f", arguments="{}", signature="s", origin="gemini")
THOUGHT = Thinking(text="hm", signature="s", origin="openai_chat")
RESULT = ToolResult(call_id="call_1", name="f", content=(Text(text="done"),))


def turn(role: Any, *parts: Part) -> Message:
    return Message(role=role, parts=parts)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Fields -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("azure", "gpt-4o"),
        ("groq", "openai/gpt-oss-120b"),
        ("mistral", "mistral-large-latest"),
        ("cerebras", "gpt-oss-120b"),
    ],
)
def test_no_thoughts_and_signatures_reach_vendors_without_a_field_for_them(provider: str, model: str) -> None:
    messages = (*HI, turn("assistant", THOUGHT, Text(text="Hello"), CALL), turn("user", RESULT))
    request = adapted(
        chat(model, provider), messages=messages, tools=(Tool(name="f", schema=OBJECT),)
    ).request
    body = json.dumps(render_for(request, chat(model, provider)).body)
    for field in ("reasoning", "signature", "extra_content", "hm"):
        assert field not in body


def test_a_refusal_is_a_text_for_vendors_without_a_field_for_it() -> None:
    destination = chat("openai/gpt-oss-120b", "groq")
    messages = (*HI, turn("assistant", Refusal(text="No.")), *HI)
    request = adapted(destination, messages=messages).request
    assert render_for(request, destination).body["messages"][1] == {"role": "assistant", "content": "No."}


def test_fireworks_gets_thoughts_without_signatures() -> None:
    destination = chat("accounts/fireworks/models/kimi-k2", "fireworks")
    messages = (*HI, turn("assistant", THOUGHT, CALL), turn("user", RESULT))
    request = adapted(destination, messages=messages, tools=(Tool(name="f", schema=OBJECT),)).request
    body = json.dumps(render_for(request, destination).body)
    assert '"reasoning_content": "hm"' in body
    for field in ("signature", "extra_content", "reasoning_details"):
        assert field not in body


# Roles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "destination", [claude("claude-opus-4-6"), claude("claude-sonnet-5-5"), chat("mistral-large", "mistral")]
)
def test_an_answer_to_continue_is_followed_by_the_user_s_request_for_it(destination: Destination) -> None:
    messages = (*HI, turn("assistant", Text(text="Once upon")))
    changed = adapted(destination, messages=messages)
    assert changed.request.messages == (*messages, turn("user", Text(text=CONTINUE_TEXT)))
    assert changed.changes == ("messages;changed=rewritten",)


@pytest.mark.parametrize("destination", [claude("claude-sonnet-4-5"), chat("gpt-4o"), gemini()])
def test_other_models_may_continue_an_answer(destination: Destination) -> None:
    messages = (*HI, turn("assistant", Text(text="Once upon")))
    assert adapted(destination, messages=messages).request.messages == messages


@pytest.mark.parametrize(
    "destination",
    [chat("mistral-large", "mistral"), chat("mistralai/devstral-2512", "openrouter")],
)
@pytest.mark.parametrize("is_one_message", [True, False])
def test_mistral_gets_no_message_of_a_user_after_a_tool_s(
    destination: Destination, is_one_message: bool
) -> None:
    asked, bridge = Text(text="And then?"), turn("assistant", Text(text=BRIDGE_TEXT))
    after = [turn("user", RESULT, asked)] if is_one_message else [turn("user", RESULT), turn("user", asked)]
    changed = adapted(destination, messages=(*HI, turn("assistant", CALL), *after))
    assert changed.request.messages[2:] == (turn("user", RESULT), bridge, turn("user", asked))
    assert changed.changes == ("messages;changed=rewritten",)


# Ids ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "call_id"),
    [
        (chat("gpt-4o"), "c" * 41),
        (responses("gpt-5"), "toolu.1"),
        (claude(), "functions.f:0"),
        (chat("mistral-large-latest", "mistral"), "call_1"),
    ],
)
def test_ids_of_calls_are_changed_in_the_call_and_its_result_alike(
    destination: Destination, call_id: str
) -> None:
    call, result = ToolCall(id=call_id, name="f", arguments="{}"), ToolResult(call_id=call_id, name="f")
    messages = (*HI, turn("assistant", call), turn("user", result))
    request = adapted(destination, messages=messages, tools=(Tool(name="f", schema=OBJECT),)).request
    body = json.dumps(render_for(request, destination).body)
    again = json.dumps(render_for(request, destination).body)
    assert body == again and f'"{call_id}"' not in body


# Media --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", EACH_FORMAT)
@pytest.mark.parametrize(
    ("stated", "data", "expected"),
    [
        ("image/jpg", JPEG, "image/jpeg"),
        ("image/jpeg", PNG, "image/png"),
        ("image/png", JPEG, "image/jpeg"),
        ("image/png", b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(9), "image/webp"),
        (None, PNG, "image/png"),
        ("image/png", b"unknown bytes" + bytes(9), "image/png"),
    ],
)
def test_images_have_the_type_of_their_bytes(
    destination: Destination, stated: str | None, data: bytes, expected: str
) -> None:
    image = Image(media_type=stated, data=encoded(data))
    result = ToolResult(call_id="call_1", name="f", content=(image,))
    messages = (turn("user", image), turn("assistant", CALL), turn("user", result))
    changed = adapted(destination, messages=messages)
    shown = Image(media_type=expected, data=encoded(data))
    assert changed.request.messages[0].parts == (shown,)
    assert changed.request.messages[2].parts == (ToolResult(call_id="call_1", name="f", content=(shown,)),)
    assert changed.changes == ()


def test_a_document_keeps_its_type_whatever_its_bytes_look_like() -> None:
    file = File(media_type="text/plain", data=encoded(b"%PDF-1.7 is how such a file starts"), name="a.txt")
    assert adapted(claude(), messages=(turn("user", file),)).request.messages == (turn("user", file),)


@pytest.mark.parametrize("destination", EACH_FORMAT)
@pytest.mark.parametrize(
    "data", [base64.urlsafe_b64encode(PNG + b"\xff\xfe?~").decode().rstrip("="), "iVBO Rw0K\nGgo="]
)
def test_base64_is_plain(destination: Destination, data: str) -> None:
    image = Image(media_type="image/png", data=data)
    (part,) = adapted(destination, messages=(turn("user", image),)).request.messages[0].parts
    assert isinstance(part, Image) and part.data is not None
    assert base64.b64decode(part.data, validate=True).startswith(b"\x89PNG")


@pytest.mark.parametrize("sender", ["openai_chat", "openai_responses"])
def test_a_percent_encoded_data_url_becomes_base64(sender: str) -> None:
    url = "data:image/svg+xml,%3Csvg%20a%3D'%2B'%2F%3E"
    chat_part = {"type": "image_url", "image_url": {"url": url}}
    responses_part = {"type": "input_image", "image_url": url}
    body: dict[str, Any] = (
        {"model": "m", "messages": [{"role": "user", "content": [chat_part]}]}
        if sender == "openai_chat"
        else {"model": "m", "input": [{"role": "user", "content": [responses_part]}]}
    )
    request = CODECS[sender].parse_request(parse_object(json.dumps(body).encode()), "m", False)
    assert request.messages[0].parts == (Image(media_type="image/svg+xml", data=encoded(b"<svg a='+'/>")),)


# Marks for the prompt cache -----------------------------------------------------------------------


@pytest.mark.parametrize("destination", [claude(), chat("anthropic/claude-sonnet-4.5", "openrouter")])
def test_claude_gets_the_last_four_cache_breakpoints(destination: Destination) -> None:
    mark = "5m"
    texts = tuple(Text(text=f"t{place}", cache=mark) for place in range(4))
    changed = adapted(
        destination,
        tools=(Tool(name="f", schema=OBJECT, cache=mark),),
        system=(Text(text="Be kind.", cache=mark),),
        messages=(turn("user", *texts),),
    )
    (tool,) = changed.request.tools
    assert (getattr(tool, "cache", None), changed.request.system[0].cache) == (None, None)
    assert changed.request.messages[0].parts == texts
    assert changed.changes == ("cache",)
