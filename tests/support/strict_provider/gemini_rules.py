"""Rules of Gemini's generateContent for conversations.

Sources: ai.google.dev/api/caching#Content and #Part, ai.google.dev/gemini-api/docs/function-calling,
.../thought-signatures ("Gemini 3 enforces strict validation"), and the error messages of the API.
"""

from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import ANY_TOOL, Conversation, Tool
from tests.support.strict_provider.signatures import GEMINI_PLACEHOLDERS, signed_payload

Json = dict[str, Any]

PART_FIELDS = {
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
    "partMetadata",
}
DATA_FIELDS = PART_FIELDS - {
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
    "partMetadata",
}
OPAQUE_FIELDS = {
    "args",
    "response",
    "parameters",
    "parametersJsonSchema",
    "responseSchema",
    "responseJsonSchema",
}
"""Fields whose values contain names that the caller chooses."""
CALL_FIELDS = {"id", "name", "args", "partialArgs", "willContinue"}
RESULT_FIELDS = {"id", "name", "response", "parts", "willContinue", "scheduling"}


def with_camel_case(value: Any) -> Any:
    """Return a body with its fields in camelCase, because Google's APIs accept snake_case too."""
    if isinstance(value, list):
        return [with_camel_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {camel_case(name): item for name, item in value.items()}
    return {name: item if name in OPAQUE_FIELDS else with_camel_case(item) for name, item in named.items()}


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def violations(body: Json, model: str) -> Iterator[str]:
    """Yield the reasons for which Gemini would reject the contents."""
    contents = body.get("contents") or []
    if not contents:
        yield "* GenerateContentRequest.contents: contents is not specified"
    for index, content in enumerate(contents):
        yield from content_violations(f"contents[{index}]", content)
    joined = joined_contents(contents)
    yield from pairing_violations(joined)
    if model.startswith("gemini-3"):
        yield from signature_violations(joined)


def content_violations(place: str, content: Json) -> Iterator[str]:
    if content.get("role") not in (None, "user", "model", "function"):
        yield f"Please use a valid role: user, model. ({place})"
    yield from unknown_names(place, content, {"role", "parts"})
    if not content.get("parts"):
        yield f"* GenerateContentRequest.{place}.parts: contents.parts must not be empty."
    for index, part in enumerate(content.get("parts") or ()):
        yield from part_violations(f"{place}.parts[{index}]", content.get("role") == "model", part)


def part_violations(place: str, is_by_model: bool, part: Json) -> Iterator[str]:
    yield from unknown_names(place, part, PART_FIELDS)
    if len(part.keys() & DATA_FIELDS) != 1:
        yield f"{place}.data: required oneof field 'data' must have one initialized field"
    if (signature := part.get("thoughtSignature")) and not is_valid(signature):
        yield f"{place}.thought_signature: Thought signature is not valid."
    if call := part.get("functionCall"):
        yield from unknown_names(f"{place}.function_call", call, CALL_FIELDS)
        if not is_by_model or not call.get("name") or not isinstance(call.get("args", {}), dict):
            yield f"{place}.function_call: it needs a name, a Struct of args and the role model."
    if result := part.get("functionResponse"):
        yield from unknown_names(f"{place}.function_response", result, RESULT_FIELDS)
        if is_by_model or not result.get("name") or not isinstance(result.get("response"), dict):
            yield f"{place}.function_response: it needs a name, a Struct and another role than model."


def unknown_names(place: str, value: Json, known: set[str]) -> Iterator[str]:
    for name in value.keys() - known:
        yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."


def is_valid(signature: str) -> bool:
    return signature in GEMINI_PLACEHOLDERS or signed_payload("gemini", signature) is not None


def joined_contents(contents: list[Json]) -> list[Json]:
    """Return the contents with neighbours of the model joined, as Google's SDKs keep streamed chunks."""
    joined: list[Json] = []
    for content in contents:
        if joined and joined[-1].get("role") == content.get("role") == "model":
            joined[-1] = {**joined[-1], "parts": [*joined[-1]["parts"], *(content.get("parts") or ())]}
        else:
            joined.append(content)
    return joined


def calls_in(content: Json) -> list[Json]:
    return [part for part in content.get("parts") or () if part.get("functionCall")]


def results_in(content: Json) -> list[Json]:
    parts = content.get("parts") or ()
    return [part["functionResponse"] for part in parts if part.get("functionResponse")]


def pairing_violations(contents: list[Json]) -> Iterator[str]:
    """Yield turns with calls that are not followed by a turn with the results of these calls."""
    wanted: list[str] = []
    for content in [*contents, {}]:
        results = results_in(content)
        if len(results) != len(wanted):
            yield (
                "Please ensure that the number of function response parts is equal to the number of function "
                f"call parts of the function call turn. ({len(results)} instead of {len(wanted)})"
            )
        elif sorted(result.get("name", "") for result in results) != sorted(wanted):
            yield f"The names of the function responses are not those of the calls: {wanted}"
        wanted = [part["functionCall"].get("name", "") for part in calls_in(content)]
    if contents and calls_in(contents[0]):
        yield "Please ensure that function call turn comes immediately after a user turn."


def signature_violations(contents: list[Json]) -> Iterator[str]:
    """Yield turns since the user's last text in which the first call has no signature."""
    for content in reversed(contents):
        if content.get("role") != "model" and any("text" in part for part in content.get("parts") or ()):
            return
        if (calls := calls_in(content)) and not calls[0].get("thoughtSignature"):
            name = calls[0]["functionCall"].get("name")
            yield f"Function call is missing a thought_signature in functionCall parts: `{name}`."


def conversation(body: Json) -> Conversation:
    results: list[str] = []
    for content in body.get("contents") or ():
        found = [str(result.get("response")) for result in results_in(content)]
        if content.get("role") != "model" and not found:
            results = []
        results += found
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    generation = body.get("generationConfig") or {}
    return Conversation(
        tools=tuple(tools_of(body)),
        results=tuple(results),
        may_call=config.get("mode") != "NONE",
        forced_tool=next(iter(config.get("allowedFunctionNames") or [ANY_TOOL]))
        if config.get("mode") == "ANY"
        else "",
        answer_schema=generation.get("responseJsonSchema") or generation.get("responseSchema"),
        thinks=bool((generation.get("thinkingConfig") or {}).get("includeThoughts")),
    )


def tools_of(body: Json) -> Iterator[Tool]:
    for group in body.get("tools") or ():
        for declaration in group.get("functionDeclarations") or ():
            schema = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
            yield Tool(str(declaration.get("name")), schema)
