"""Responses of generateContent, parsed and rendered.

See ai.google.dev/api/generate-content#generatecontentresponse.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from proxy.formats.gemini.content import METADATA_FIELDS, parse_part, render_parts
from proxy.formats.gemini.errors import error_message, parse_error_object
from proxy.formats.gemini.grounding import parse_citations, render_grounding
from proxy.formats.gemini.reasoning import CallSeals, is_content_signature
from proxy.formats.gemini.usage import parse_usage, render_usage
from proxy.formats.gemini.wire import FORMAT, WireCandidate, WireResponse, parse_responses
from proxy.formats.json_body import DECODE_ERRORS, as_str, dict_items, encode, repair_json
from proxy.formats.neutral import (
    Choice,
    FinishReason,
    InvalidRequest,
    InvalidUpstreamResponse,
    Opaque,
    Part,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.seals import unseal
from proxy.formats.tool_calls import with_unique_id

FINISH_REASONS: dict[str, FinishReason] = {
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
MAX_TIMESTAMP = 2**32
"""A larger `created` cannot be in seconds, and is left out."""
WIRE_FINISH_REASONS: dict[FinishReason, str] = {
    "length": "MAX_TOKENS",
    "pause": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "other": "OTHER",
}


def parse_response(body: bytes) -> Response:
    """Parse a response. Raises InvalidUpstreamResponse."""
    try:
        responses = parse_responses(repair_json(body))
        response = responses[0] if responses else WireResponse()
        choices = tuple(parse_choice(candidate) for candidate in response.candidates or ())
    except DECODE_ERRORS as error:
        raise InvalidUpstreamResponse(f"The provider's response cannot be decoded: {error}.") from None
    if response.error:
        raise InvalidUpstreamResponse(
            error_message(parse_error_object({"error": response.error})) or "The provider reported an error."
        )
    if response == WireResponse():
        raise InvalidUpstreamResponse("The provider's response contains no candidates.")
    return Response(
        id=response.response_id or new_id(),
        model=response.model_version or "",
        choices=choices or (Choice(finish_reason="content_filter" if response.is_blocked else "other"),),
        usage=parse_usage(response),
        created=parse_time(response.create_time),
    )


def new_id() -> str:
    return uuid4().hex


def parse_choice(candidate: WireCandidate) -> Choice:
    content = candidate.content
    used_ids: set[str] = set()
    parts: list[Part] = []
    for item in (content and content.parts) or ():
        add_parts(parts, [with_unique_id(part, used_ids) for part in parse_valid_part(item)])
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    return Choice(
        parts=(*with_citations(parts, candidate.grounding_metadata), *parse_metadata(candidate)),
        finish_reason=parse_finish_reason(candidate.finish_reason, has_calls, bool(parts)),
        logprobs=parse_logprobs(candidate.logprobs_result),
    )


def add_parts(parts: list[Part], found: list[Part]) -> None:
    """Add the parts of one item.

    If a signature arrives in an empty item after its text, it is put before the text, because neutral
    signatures of content come before the content.
    """
    match parts[-1] if parts else None, found:
        case Text(), [Thinking() as signature] if is_content_signature(signature):
            parts.insert(-1, signature)
        case _:
            parts += found


def parse_valid_part(item: dict[str, Any]) -> list[Part]:
    """Parse a part.

    An invalid part yields no neutral part, so that the rest of the response is still used.

    If the server is another such gateway, its signatures may be seals. These seals repeat thoughts that the
    response also contains, so they are removed.
    """
    try:
        return parse_part(without_seal(item))
    except InvalidRequest:
        return []


def without_seal(item: dict[str, Any]) -> dict[str, Any]:
    signature = as_str(item.get("thoughtSignature"))
    return item if unseal(signature) is None else item | {"thoughtSignature": None}


def with_citations(parts: list[Part], metadata: Any) -> list[Part]:
    if not metadata:
        return parts
    cited = iter(parse_citations(metadata, [part.text for part in parts if isinstance(part, Text)]))
    return [
        msgspec.structs.replace(part, citations=tuple(next(cited))) if isinstance(part, Text) else part
        for part in parts
    ]


def parse_finish_reason(reason: str | None, has_calls: bool, has_content: bool) -> FinishReason:
    """Return the finish reason.

    Google's reason for a response that ends with calls is STOP. A response with content but without a reason
    counts as complete.
    """
    finish: FinishReason = "other"
    if reason:
        finish = FINISH_REASONS.get(reason, "other")
    elif has_content:
        finish = "stop"
    return "tool_calls" if has_calls and finish == "stop" else finish


def parse_metadata(candidate: WireCandidate) -> list[Opaque]:
    values = (candidate.grounding_metadata, candidate.citation_metadata, candidate.url_context_metadata)
    return [
        Opaque(origin=FORMAT, kind=field, value=value)
        for field, value in zip(METADATA_FIELDS, values, strict=True)
        if value
    ]


def parse_time(text: str | None) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None


def parse_logprobs(result: Any) -> tuple[Any, ...]:
    """Parse a logprobsResult into OpenAI's token entries."""
    if not isinstance(result, dict) or not isinstance(result.get("chosenCandidates"), list):
        return ()
    top_candidates = result.get("topCandidates")
    top_candidates = top_candidates if isinstance(top_candidates, list) else []
    chosen = [item for item in result["chosenCandidates"] if isinstance(item, dict)]
    return tuple(
        token_entry(item)
        | {"top_logprobs": top_entries(top_candidates[position] if position < len(top_candidates) else None)}
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
    return {
        "token": token,
        "logprob": logprob if isinstance(logprob, int | float) else 0.0,
        "bytes": list(token.encode()),
    }


def render_response(response: Response, request: Request) -> bytes:
    body: dict[str, Any] = {
        "candidates": [render_choice(choice, index) for index, choice in enumerate(response.choices)]
    }
    if response.usage is not None:
        body["usageMetadata"] = render_usage(response.usage)
    body["modelVersion"] = response.model or request.model
    if response.created is not None and 0 <= response.created < MAX_TIMESTAMP:
        body["createTime"] = datetime.fromtimestamp(response.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body["responseId"] = response.id
    return encode(body)


def render_choice(choice: Choice, index: int) -> dict[str, Any]:
    parts = choice.parts
    candidate: dict[str, Any] = {
        "content": render_content(render_parts(map(CallSeals().sign, parts))),
        "finishReason": render_finish_reason(choice.finish_reason),
    }
    candidate["index"] = index
    if choice.logprobs:
        candidate["logprobsResult"] = render_logprobs(choice.logprobs)
    return candidate | render_grounding(parts) | render_metadata(parts)


def render_content(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return ({"parts": parts} if parts else {}) | {"role": "model"}


def render_finish_reason(finish_reason: FinishReason) -> str:
    return WIRE_FINISH_REASONS.get(finish_reason, "STOP")


def render_metadata(parts: Iterable[Part]) -> dict[str, Any]:
    notes = (
        part
        for part in parts
        if isinstance(part, Opaque) and part.origin == FORMAT and part.kind in METADATA_FIELDS
    )
    return {note.kind: note.value for note in notes}


def render_logprobs(entries: tuple[Any, ...]) -> dict[str, Any]:
    tokens = dict_items(list(entries))
    result: dict[str, Any] = {"chosenCandidates": [render_token(entry) for entry in tokens]}
    if any(entry.get("top_logprobs") for entry in tokens):
        result["topCandidates"] = [
            {"candidates": [render_token(top) for top in dict_items(entry.get("top_logprobs"))]}
            for entry in tokens
        ]
    return result


def render_token(entry: dict[str, Any]) -> dict[str, Any]:
    return {"token": entry.get("token", ""), "logProbability": entry.get("logprob", 0.0)}
