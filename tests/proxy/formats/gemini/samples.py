"""Requests and responses of generateContent, and any JSON, for the tests of this folder."""

import json
from typing import Any

from hypothesis import strategies as st

from proxy.formats import gemini
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Message,
    Request,
    Text,
    Tool,
)
from proxy.formats.quirks import Quirks

MODEL = "gemini-2.5-flash"
USER = Message(role="user", parts=(Text(text="Hi"),))
WEATHER = Tool(name="weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PART: Any = st.dictionaries(
    st.sampled_from(
        [
            "text",
            "thought",
            "thoughtSignature",
            "functionCall",
            "functionResponse",
            "inlineData",
            "fileData",
            "other",
        ]
    ),
    JSON
    | st.dictionaries(
        st.sampled_from(["name", "id", "args", "response", "parts", "partialArgs", "willContinue"]),
        JSON,
        max_size=4,
    ),
    max_size=3,
)
CONTENT: Any = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "model", None]), "parts": st.lists(PART, max_size=3)}
)


def neutral_request(*messages: Message, **fields: Any) -> Request:
    return Request(**{"model": MODEL, "messages": messages or (USER,)} | fields)


def parsed(**body: Any) -> Request:
    return gemini.parse_request(
        parse_object(json.dumps({"contents": [{"parts": [{"text": "Hi"}]}]} | body).encode()), MODEL
    )


def rendered(request: Request, quirks: Quirks | None = None) -> dict[str, Any]:
    return gemini.render_request(request, quirks or Quirks()).body


def contents(*messages: Message, model: str = MODEL) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered(neutral_request(*messages, model=model))["contents"]
    return found


def assistant(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def tool_results(*parts: Any) -> Message:
    return Message(role="user", parts=parts)


def response_body(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP"} | fields
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": MODEL}
