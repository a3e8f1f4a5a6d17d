"""The conversation of a request, parsed and rendered.

Gemini requires an order: the first turn is the user's, the turns of user and model alternate, and the turn
after function calls contains one result for each call (ai.google.dev/gemini-api/docs/function-calling).
"""

from collections import Counter
from itertools import groupby
from typing import Any, Literal

from msgspec.structs import replace

from proxy.formats.gemini.content import (
    METADATA_FIELDS,
    parse_object,
    parse_part,
    render_media,
    render_parts,
)
from proxy.formats.gemini.repeated_results import without_repeated_results
from proxy.formats.gemini.wire import FORMAT, WireTurn
from proxy.formats.neutral import (
    File,
    Image,
    InvalidRequest,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)
from proxy.formats.reasoning import SKIP_SIGNATURE, is_gemini_3
from proxy.formats.tool_calls import ToolCallLinker, has_id, has_name, is_next

EMPTY_USER_TURN: dict[str, Any] = {"role": "user", "parts": [{"text": ""}]}
"""A user turn without content, which Gemini accepts as the first turn."""
MISSING_RESULT_TEXT = "The tool gave no result."
Turn = tuple[str, list[Part]]
Role = Literal["user", "assistant"]
ROLES: dict[str, Role] = {"user": "user", "function": "user", "model": "assistant", "": "user"}


def parse_messages(contents: list[WireTurn] | WireTurn) -> tuple[Message, ...]:
    """Parse the turns of a conversation. Raises InvalidRequest.

    Google's SDKs add each chunk of a stream to the history as a separate content. Therefore, neighbouring
    contents of the same role are parsed as one message.
    """
    linker = ToolCallLinker(numbered_call_id, (has_id, has_name, is_next))
    turns = [(parse_role(turn, position), turn) for position, turn in enumerate(as_content_list(contents))]
    messages = []
    for role, run in groupby(turns, key=lambda turn: turn[0]):
        items = [item for _, content in run for item in content_parts(content)]
        parts = parse_items(items, joins_texts=role == "assistant")
        messages.append(Message(role=role, parts=tuple(link_turn(parts, linker))))
    return tuple(messages)


def parse_role(content: WireTurn, position: int) -> Role:
    role = ROLES.get((content.role or "").lower())
    if role is None:
        raise InvalidRequest(
            f"The role {content.role} is not supported. Use user or model.", f"contents[{position}].role"
        )
    return "assistant" if any("functionCall" in item for item in content_parts(content)) else role


def parse_items(items: list[dict[str, Any]], *, joins_texts: bool) -> list[Part]:
    """Parse the parts of one turn.

    A thought or a text of the model may be split into several parts.
    """
    parts: list[Part] = []
    start, was_thought = 0, False
    for item in items:
        found, is_thought = parse_part(item), bool(item.get("thought"))
        has_call = any(isinstance(part, ToolCall) for part in found)
        if sealed := [part for part in found if isinstance(part, Thinking) and part.origin != FORMAT]:
            place_sealed(parts, sealed, start, start if has_call else len(parts))
        for part in found:
            if part not in sealed:
                add_part(parts, part, joins_texts=joins_texts, joins_thoughts=was_thought and is_thought)
        start, was_thought = len(parts) if has_call else start, is_thought
    return parts


def place_sealed(parts: list[Part], sealed: list[Thinking], start: int, default: int) -> None:
    """Insert sealed thinking at the place of the thoughts that it belongs to.

    Only the parts from `start` on are searched.

    The client may have kept the text of the thinking as thoughts without a signature, or the same thinking in
    another seal. These parts are replaced. If there are none, the thinking is inserted at `default`.
    """
    kept = [
        (index, part)
        for index, part in enumerate(parts[start:], start)
        if isinstance(part, Thinking) and (part in sealed or is_summary(part))
    ]
    for index, _ in reversed(kept):
        del parts[index]
    text, place = "".join(part.text for _, part in kept), kept[0][0] if kept else default
    parts[place:place] = sealed if len(sealed) > 1 else [with_text(sealed[0], text)]


def with_text(thinking: Thinking, text: str) -> Thinking:
    """Return sealed thinking with a text.

    Seals from earlier versions of the gateway do not contain the text.
    """
    return thinking if thinking.text else replace(thinking, text=text)


def is_summary(part: Thinking) -> bool:
    """Return whether a thought has no signature. Nothing shows which vendor's model wrote it."""
    return part.origin == FORMAT and part.signature is None


def add_part(parts: list[Part], part: Part, *, joins_texts: bool, joins_thoughts: bool) -> None:
    match parts[-1] if parts else None, part:
        case Text() as last, Text() if joins_texts:
            parts[-1] = Text(text=last.text + part.text)
        case Thinking() as last, Thinking() if joins_thoughts and is_summary(last):
            parts[-1] = replace(part, text=last.text + part.text)
        case _:
            parts.append(part)


def numbered_call_id(_call_id: str, number: int) -> str:
    """Return an id that depends only on the number of the call.

    The same history therefore always becomes the same prompt, so that providers can cache it.
    """
    return f"call_{number:024d}"


def link_turn(parts: list[Part], linker: ToolCallLinker) -> list[Part]:
    """Give each call a unique id and each result the id of its call.

    Clients of Gemini may leave ids out, or use an id for several calls. A result belongs to a call of the
    last turn that has calls.
    """
    if any(isinstance(part, ToolCall) for part in parts):
        linker.start_turn()
    return [link_part(part, linker) for part in parts]


def link_part(part: Part, linker: ToolCallLinker) -> Part:
    match part:
        case ToolCall():
            return linker.add_call(part)
        case ToolResult(call_id=call_id):
            call = linker.match_result(call_id, part.name)
            return replace(part, call_id=call.id if call else call_id or linker.unique_id(""))
        case _:
            return part


def as_content_list(contents: list[WireTurn] | WireTurn) -> list[WireTurn]:
    """Return the contents as a list, without results that the client has sent twice."""
    turns = contents if isinstance(contents, list) else [contents]
    kept = without_repeated_results(map(content_parts, turns))
    return [replace(turn, parts=parts) for turn, parts in zip(turns, kept, strict=True)]


def content_parts(content: WireTurn) -> list[dict[str, Any]]:
    match content.parts:
        case None:
            return []
        case dict():
            return [content.parts]
        case _:
            return content.parts


def parse_system(instruction: WireTurn | str | None) -> tuple[Text, ...]:
    match instruction:
        case None:
            return ()
        case str():
            return (Text(text=instruction),)
        case _:
            parts = [part for item in content_parts(instruction) for part in parse_part(item)]
            texts = tuple(part for part in parts if isinstance(part, Text))
            if len(texts) != len(parts):
                raise UnsupportedFeature("The system instruction can contain only text.", "systemInstruction")
            return texts


def render_messages(request: Request) -> list[dict[str, Any]]:
    """Render the conversation.

    Raises UnsupportedFeature for a result that does not belong to a call of the turn before it.
    """
    turns = merge_turns(request)
    repeated = repeated_ids(turns)
    contents: list[dict[str, Any]] = [] if turns and turns[0][0] == "user" else [EMPTY_USER_TURN]
    calls: list[ToolCall] = []
    prepared: list[ToolCall] = []
    for role, parts in turns:
        if role == "model":
            calls = [part for part in parts if isinstance(part, ToolCall)]
            prepared = prepare_calls(calls, request.model, repeated)
            contents.append({"role": role, "parts": render_parts(with_calls(parts, prepared))})
        else:
            contents.append(
                {
                    "role": role,
                    "parts": render_user_turn(parts, calls, prepared, is_gemini_3(request.model)),
                }
            )
            calls, prepared = [], []
    return contents


def merge_turns(request: Request) -> list[Turn]:
    """Remove the parts that Gemini does not accept, then merge neighbouring turns of one role."""
    turns: list[Turn] = []
    for message in request.messages:
        parts = [part for part in message.parts if is_supported(part)]
        role = "model" if message.role == "assistant" else "user"
        if not parts or message.role == "system":
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(parts)
        else:
            turns.append((role, parts))
    return turns


def is_supported(part: Part) -> bool:
    """Return whether Gemini accepts a part.

    Gemini does not understand thinking and opaque parts of other vendors.
    """
    match part:
        case Text(text=text) | Refusal(text=text):
            return bool(text)
        case Thinking(origin=origin):
            return origin == FORMAT
        case Opaque(origin=origin, kind=what):
            return origin == FORMAT and what not in METADATA_FIELDS
        case _:
            return True


def repeated_ids(turns: list[Turn]) -> set[str]:
    counts = Counter(part.id for _, parts in turns for part in parts if isinstance(part, ToolCall))
    return {call_id for call_id, count in counts.items() if count > 1}


def prepare_calls(calls: list[ToolCall], model: str, repeated: set[str]) -> list[ToolCall]:
    """Return the calls of a turn as Google accepts them.

    Signatures of other vendors are removed. If the model is Gemini 3, the first call always gets a signature,
    because Gemini 3 requires one. Ids that several calls share are removed.
    """
    prepared = [
        replace(call, signature=call.signature if call.origin == FORMAT else None, origin=FORMAT)
        for call in calls
    ]
    if prepared and is_gemini_3(model) and not prepared[0].signature:
        prepared[0] = replace(prepared[0], signature=SKIP_SIGNATURE)
    return [replace(call, id="") if call.id in repeated else call for call in prepared]


def with_calls(parts: list[Part], calls: list[ToolCall]) -> list[Part]:
    """Return the parts, with their calls replaced by `calls` in the same order."""
    rest = iter(calls)
    return [next(rest) if isinstance(part, ToolCall) else part for part in parts]


def render_user_turn(
    parts: list[Part], calls: list[ToolCall], prepared: list[ToolCall], media_in_result: bool
) -> list[dict[str, Any]]:
    results = [part for part in parts if isinstance(part, ToolResult)]
    others = [part for part in parts if not isinstance(part, ToolResult | ToolCall)]
    matched = match_results(calls, results)
    if results:
        raise UnsupportedFeature(
            f"The result of {results[0].call_id} does not answer a call of the turn before it.", "messages"
        )
    responses = [
        render_tool_result(call, result, media_in_result)
        for call, result in zip(prepared, matched, strict=True)
    ]
    media_beside = (
        [] if media_in_result else [render_media(item) for result in matched for item in result_media(result)]
    )
    return [*responses, *media_beside, *render_parts(others)]


def match_results(calls: list[ToolCall], results: list[ToolResult]) -> list[ToolResult]:
    """Return one result for each call, and remove it from `results`.

    It is the result with the id of the call. If there is none, it is the next result that has the name of the
    call, or no name. A call without a result gets an error.
    """
    matched: list[ToolResult | None] = []
    for call in calls:
        matched.append(next((result for result in results if result.call_id == call.id), None))
        remove_by_identity(matched[-1], results)
    for position, call in enumerate(calls):
        if matched[position] is None:
            matched[position] = next((result for result in results if result.name in (None, call.name)), None)
            remove_by_identity(matched[position], results)
    missing = ToolResult(call_id="", content=(Text(text=MISSING_RESULT_TEXT),), is_error=True)
    return [result or missing for result in matched]


def remove_by_identity(taken: ToolResult | None, results: list[ToolResult]) -> None:
    """Remove one result by identity, because equal results may belong to different calls."""
    results[:] = [result for result in results if result is not taken]


def result_media(result: ToolResult) -> list[Image | File]:
    return [item for item in result.content if isinstance(item, Image | File)]


def render_tool_result(call: ToolCall, result: ToolResult, media_in_result: bool) -> dict[str, Any]:
    """Render the result of a call.

    Gemini 3 and later models accept media inside of a result ("Multimodal function responses"). For earlier
    models, `media_in_result` is false, and the caller puts the media after the result.
    """
    media = [render_media(item) for item in result_media(result)]
    response = ({"id": call.id} if call.id else {}) | {
        "name": call.name,
        "response": render_function_response(result),
    }
    return {"functionResponse": response | ({"parts": media} if media and media_in_result else {})}


def render_function_response(result: ToolResult) -> dict[str, Any]:
    text = "".join(item.text for item in result.content if isinstance(item, Text))
    value = parse_object(text)
    if result.is_error:
        return value if value is not None and "error" in value else {"error": text}
    if value is not None:
        return value
    return {} if not text and result_media(result) else {"result": text}
