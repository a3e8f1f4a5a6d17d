"""Responses of the scripted model in Gemini's generateContent."""

import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import Turn
from tests.support.strict_provider.signatures import sign
from tests.support.strict_provider.stream import event, pieces
from tests.support.strict_provider.usage import CACHED, INPUT, REASONING, TEXT

Json = dict[str, Any]

INPUT_USAGE: Json = {
    "promptTokenCount": INPUT,
    "cachedContentTokenCount": CACHED,
    "totalTokenCount": INPUT,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT}],
}
FINAL_USAGE: Json = {
    **INPUT_USAGE,
    "candidatesTokenCount": TEXT,
    "thoughtsTokenCount": REASONING,
    "totalTokenCount": INPUT + TEXT + REASONING,
}


def complete(turn: Turn, model: str) -> Json:
    parts = parts_of(turn, model)
    if is_signed_at_the_end(turn, model):
        parts[-1]["thoughtSignature"] = sign("gemini", "end")
    return chunk(parts, model, FINAL_USAGE, "STOP")


def stream(turn: Turn, model: str) -> Iterator[bytes]:
    """Yield a chunk for each piece. Gemini 3 sends a final text's signature in an empty part of its own."""
    streamed = [streamed_part for part in parts_of(turn, model) for streamed_part in split(part)]
    if is_signed_at_the_end(turn, model):
        streamed.append({"text": "", "thoughtSignature": sign("gemini", "end")})
    for part in streamed[:-1]:
        yield event(chunk([part], model, INPUT_USAGE, None))
    yield event(chunk(streamed[-1:], model, FINAL_USAGE, "STOP"))


def parts_of(turn: Turn, model: str) -> list[Json]:
    """Return the parts. The first call bears the signature; calls have ids since Gemini 3."""
    parts: list[Json] = [{"text": turn.thought, "thought": True}] if turn.thought else []
    if turn.text:
        parts.append({"text": turn.text})
    for index, call in enumerate(turn.calls):
        id = {"id": uuid.uuid4().hex[:8]} if is_gemini_3(model) else {}
        signature = {"thoughtSignature": sign("gemini", call.tool.name)} if index == 0 else {}
        parts.append({"functionCall": {"name": call.tool.name, "args": call.arguments, **id}, **signature})
    return parts


def split(part: Json) -> Iterator[Json]:
    if "text" not in part:
        yield part
    for piece in pieces(part.get("text", "")):
        yield {**part, "text": piece}


def is_signed_at_the_end(turn: Turn, model: str) -> bool:
    return is_gemini_3(model) and not turn.calls


def is_gemini_3(model: str) -> bool:
    return model.startswith("gemini-3")


def chunk(parts: list[Json], model: str, usage: Json, finish: str | None) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": uuid.uuid4().hex[:22],
    }
