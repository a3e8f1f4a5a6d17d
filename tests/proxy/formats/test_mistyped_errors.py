"""Fields of the wrong type in a provider's error: texts are found, and Python values are not shown."""

import json
from typing import Any

import pytest

from proxy.formats.neutral import Failed, InvalidUpstreamResponse
from proxy.formats.registry import CODECS

FORMATS = ("openai_chat", "openai_responses", "anthropic", "gemini")
WITHOUT_WORDS: list[Any] = [
    [None], [], {}, {"a": 1}, [[None]], [True], 5, 0, 1.5, True, False, None, "", [{}],
    {"message": None}, {"message": [None]},
]  # fmt: skip
WITH_WORDS: list[Any] = [
    "Too busy.", ["Too busy."], {"message": "Too busy."}, [{"message": "Too busy."}], ["Too busy.", None],
    {"text": 1, "detail": "Too busy."},
]  # fmt: skip


def bodies(message: Any) -> list[Any]:
    """Return the places where vendors and compatible servers put a message."""
    return [
        {"error": {"message": message, "type": "overloaded_error", "code": 529}},
        {
            "error": {
                "message": message,
                "type": message,
                "code": message,
                "param": message,
                "status": message,
                "details": message,
            }
        },
        {"type": "error", "error": {"type": message, "message": message}},
        {"error": message},
        {"message": message},
        {"detail": message},
        [{"error": {"message": message}}],
        {"error": {"message": message, "metadata": {"raw": message}}},
        {"detail": [{"msg": message, "loc": [None, True, {}]}]},
        message,
    ]


def looks_like_python(text: str) -> bool:
    return any(mark in text for mark in ("None", "True", "False", "[", "{", "'"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("message", WITHOUT_WORDS, ids=repr)
def test_error_without_a_message_names_its_status(name: str, message: Any) -> None:
    for body in bodies(message):
        failure = CODECS[name].parse_error(529, json.dumps(body).encode())
        assert "529" in failure.message and not looks_like_python(failure.message), body
        for text in (failure.code, failure.param or "", failure.kind):
            assert not looks_like_python(text), body
        assert failure.status == 529


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("message", WITH_WORDS, ids=repr)
def test_error_message_is_found_in_any_place(name: str, message: Any) -> None:
    for body in bodies(message):
        failure = CODECS[name].parse_error(529, json.dumps(body).encode())
        assert "Too busy." in failure.message and not looks_like_python(failure.message), body


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("message", [value for value in WITHOUT_WORDS if value], ids=repr)
def test_error_in_a_response_or_stream_is_not_shown_as_python_text(name: str, message: Any) -> None:
    body = json.dumps(
        {"type": "error", "error": {"message": message, "code": message, "type": message}}
    ).encode()
    with pytest.raises(InvalidUpstreamResponse) as rejected:
        CODECS[name].parse_response(body)
    assert not looks_like_python(str(rejected.value))
    decoder = CODECS[name].parse_stream()
    seen = [*decoder.feed(b"event: error\ndata: " + body + b"\n\n"), *decoder.finish()]
    (failure,) = [event.error for event in seen if isinstance(event, Failed)]
    assert failure.message and not looks_like_python(failure.message)


def test_deeply_nested_error_is_read_to_a_fixed_depth() -> None:
    nested = b'{"message": ' * 900 + b'"x"' + b"}" * 900
    for name in FORMATS:
        assert "529" in CODECS[name].parse_error(529, nested).message
