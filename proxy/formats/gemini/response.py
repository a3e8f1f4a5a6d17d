"""Answers of generateContent (ai.google.dev/api/generate-content#generatecontentresponse), both ways."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from proxy.formats.body import encode, mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.gemini.errors import error_event, error_of, message_in, parse_error, render_error
from proxy.formats.gemini.grounding import Grounded, read_citations, render_grounding
from proxy.formats.gemini.parts import ANSWER_NOTES, ORIGIN, Wire, read_part, render_parts
from proxy.formats.gemini.usage import counts_in, render_usage, shown_usage, with_services
from proxy.formats.neutral import BadAnswer, Choice, FinishReason, Opaque, Part, Request, Response, Text, ToolCall, Usage

__all__ = ["error_event", "parse_error", "parse_response", "render_error", "render_response"]

FINISHES: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
LATEST = 2**32
"""A later time is one in other units than seconds."""
FINISH_WORDS: dict[FinishReason, str] = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "other": "OTHER"}


class Content(Wire):
    parts: list[dict[str, Any]] | None = None


class Candidate(Wire):
    index: int | None = None
    content: Content | None = None
    finish_reason: str | None = None
    logprobs_result: Any = None
    grounding_metadata: Any = None
    citation_metadata: Any = None
    url_context_metadata: Any = None


class Answer(Wire):
    candidates: list[Candidate] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Any = None

    @property
    def is_blocked(self) -> bool:
        return isinstance(self.prompt_feedback, dict) and bool(self.prompt_feedback.get("blockReason"))


decode_answer = msgspec.json.Decoder(Answer).decode
decode_answers = msgspec.json.Decoder(list[Answer]).decode


# Reading ------------------------------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Raises BadAnswer."""
    try:
        answers = read_answers(mended(body))
        answer = answers[0] if answers else Answer()
        choices = tuple(read_choice(candidate) for candidate in answer.candidates or ())
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise BadAnswer(f"The provider's answer cannot be read: {error}.") from None
    if answer.error:
        raise BadAnswer(message_in(error_of({"error": answer.error})) or "The provider answered with an error.")
    if answer == Answer():
        raise BadAnswer("The provider's answer holds no candidates.")
    return Response(
        id=answer.response_id or made_id(),
        model=answer.model_version or "",
        choices=choices or (Choice(finish="content_filter" if answer.is_blocked else "other"),),
        usage=usage_of(answer),
        created=read_time(answer.create_time),
    )


def usage_of(answer: Answer) -> Usage | None:
    grounded = Grounded()
    for candidate in answer.candidates or ():
        grounded.read(candidate.grounding_metadata)
    metadata = answer.usage_metadata
    return with_services(shown_usage(counts_in(metadata), metadata, answer.is_blocked), metadata, grounded)


def read_answers(data: bytes) -> list[Answer]:
    """One, or a list of them. Raises one of UNREADABLE."""
    return decode_answers(data) if data.lstrip().startswith(b"[") else [decode_answer(data)]


def made_id() -> str:
    return uuid4().hex


def read_choice(candidate: Candidate) -> Choice:
    content = candidate.content
    seen: set[str] = set()
    parts = [with_id(part, seen) for item in (content and content.parts) or () for part in readable_parts(item)]
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    return Choice(
        parts=(*with_citations(parts, candidate.grounding_metadata), *notes_of(candidate)),
        finish=read_finish(candidate.finish_reason, has_calls, bool(parts)),
        logprobs=read_logprobs(candidate.logprobs_result),
    )


def readable_parts(item: dict[str, Any]) -> list[Part]:
    """None for a part that is not what Google says it is: the others are an answer all the same."""
    try:
        return read_part(item)
    except msgspec.ValidationError:
        return []


def with_citations(parts: list[Part], metadata: Any) -> list[Part]:
    if not metadata:
        return parts
    cited = iter(read_citations(metadata, [part.text for part in parts if isinstance(part, Text)]))
    return [msgspec.structs.replace(part, citations=tuple(next(cited))) if isinstance(part, Text) else part for part in parts]


def with_id(part: Part, seen: set[str]) -> Part:
    """Gemini's calls have ids from Gemini 3 on."""
    return msgspec.structs.replace(part, id=fresh_call_id(part.id, seen)) if isinstance(part, ToolCall) else part


def read_finish(reason: str | None, has_calls: bool, has_content: bool) -> FinishReason:
    """An answer with calls stops like any other; one without a reason but with content is taken for whole."""
    finish: FinishReason = "other"
    if reason:
        finish = FINISHES.get(reason, "other")
    elif has_content:
        finish = "stop"
    return "tool_calls" if has_calls and finish == "stop" else finish


def notes_of(candidate: Candidate) -> list[Opaque]:
    notes = (candidate.grounding_metadata, candidate.citation_metadata, candidate.url_context_metadata)
    return [Opaque(origin=ORIGIN, what=what, value=value) for what, value in zip(ANSWER_NOTES, notes, strict=True) if value]


def read_time(text: str | None) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None


def read_logprobs(result: Any) -> tuple[Any, ...]:
    """Google's logprobsResult as OpenAI's token entries."""
    if not isinstance(result, dict) or not isinstance(result.get("chosenCandidates"), list):
        return ()
    tops = result.get("topCandidates")
    tops = tops if isinstance(tops, list) else []
    chosen = [item for item in result["chosenCandidates"] if isinstance(item, dict)]
    return tuple(
        token_entry(item) | {"top_logprobs": top_entries(tops[position] if position < len(tops) else None)}
        for position, item in enumerate(chosen)
    )


def top_entries(top: Any) -> list[dict[str, Any]]:
    match top:
        case {"candidates": list(candidates)}:
            return [token_entry(item) for item in candidates if isinstance(item, dict)]
        case _:
            return []


def token_entry(item: dict[str, Any]) -> dict[str, Any]:
    token = str(item.get("token") or "")
    logprob = item.get("logProbability")
    return {"token": token, "logprob": logprob if isinstance(logprob, int | float) else 0.0, "bytes": list(token.encode())}


# Writing ------------------------------------------------------------------------------------------------------------------


def render_response(response: Response, request: Request) -> bytes:
    answer: dict[str, Any] = {"candidates": [render_choice(choice, index) for index, choice in enumerate(response.choices)]}
    if response.usage is not None:
        answer["usageMetadata"] = render_usage(response.usage)
    answer["modelVersion"] = response.model or request.model
    if response.created is not None and 0 <= response.created < LATEST:
        answer["createTime"] = datetime.fromtimestamp(response.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer["responseId"] = response.id
    return encode(answer)


def render_choice(choice: Choice, index: int) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": content_of(render_parts(choice.parts)), "finishReason": finish_word(choice.finish)}
    candidate["index"] = index
    if choice.logprobs:
        candidate["logprobsResult"] = render_logprobs(choice.logprobs)
    return candidate | render_grounding(choice.parts) | render_notes(choice.parts)


def content_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return ({"parts": parts} if parts else {}) | {"role": "model"}


def finish_word(finish: FinishReason) -> str:
    return FINISH_WORDS.get(finish, "STOP")


def render_notes(parts: Iterable[Part]) -> dict[str, Any]:
    notes = (part for part in parts if isinstance(part, Opaque) and part.origin == ORIGIN and part.what in ANSWER_NOTES)
    return {note.what: note.value for note in notes}


def render_logprobs(entries: tuple[Any, ...]) -> dict[str, Any]:
    tokens = dicts_in(entries)
    result: dict[str, Any] = {"chosenCandidates": [chosen(entry) for entry in tokens]}
    if any(entry.get("top_logprobs") for entry in tokens):
        result["topCandidates"] = [{"candidates": [chosen(top) for top in dicts_in(entry.get("top_logprobs"))]} for entry in tokens]
    return result


def dicts_in(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list | tuple) else []


def chosen(entry: dict[str, Any]) -> dict[str, Any]:
    return {"token": entry.get("token", ""), "logProbability": entry.get("logprob", 0.0)}
