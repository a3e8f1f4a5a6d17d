"""The parts of Gemini's contents (ai.google.dev/api/caching#Part), both ways, for requests and answers alike."""

import base64
import binascii
import mimetypes
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from proxy.formats.body import encode
from proxy.formats.custom_tools import call_as_function
from proxy.formats.neutral import File, Image, Inexpressible, Opaque, Origin, Part, Refusal, Text, Thinking, ToolCall, ToolResult

ORIGIN: Origin = "gemini"
ORIGINS: dict[str, Origin] = {name: name for name in get_args(Origin)}
REDACTED = "redacted#"
LONGEST_ORIGIN = 24
ANSWER_NOTES = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
"""What stands beside an answer's content and is opaque elsewhere."""
SIDE_FIELDS = (
    "videoMetadata",
    "mediaResolution",
    "mediaProcessing",
    "partMetadata",
    "audioMetadata",
    "audioTranscription",
    "documentMetadata",
    "speechMetadata",
    "spreadsheetMetadata",
)
"""What is said of a part's content, for which other formats have no words."""
BESIDES = frozenset(("thought", "thoughtSignature", *SIDE_FIELDS))
CONTENT = (
    "text",
    "functionCall",
    "functionResponse",
    "inlineData",
    "fileData",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
"""Of these a part has one; what other fields it has is said of that one."""
GOOGLE_FILES = ("https://generativelanguage.googleapis.com/", "gs://", "files/")
STANDARD_ALPHABET = str.maketrans("-_", "+/")
DEFAULT_IMAGE, DEFAULT_FILE = "image/jpeg", "application/octet-stream"


class Wire(msgspec.Struct, rename="camel"):
    """Base of Google's types; unknown fields are ignored."""


class Blob(Wire):
    mime_type: str = ""
    data: str = ""
    display_name: str | None = None


class FileData(Wire):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(Wire):
    name: str = ""
    args: Any = None
    id: str | None = None


class FunctionResponse(Wire):
    name: str = ""
    response: Any = None
    id: str | None = None
    parts: list[dict[str, Any]] | None = None


# Signatures ---------------------------------------------------------------------------------------------------------------
#
# google-genai types `thoughtSignature` as bytes, so what stands there must be base64 and comes back in its URL-safe alphabet.


def seal(signature: str, origin: Origin | None) -> str:
    """A signature in this format's field; one of another origin carries its name, so that it finds the way back."""
    if origin in (None, ORIGIN):
        return signature
    return base64.b64encode(f"{origin}#{signature}".encode()).decode()


def unseal(sealed: str) -> tuple[str, Origin]:
    for text in (sealed, from_base64(sealed)):
        name, mark, rest = text.partition("#")
        if mark and name in ORIGINS:
            return rest, ORIGINS[name]
    return sealed, ORIGIN


def from_base64(text: str) -> str:
    """The text behind a sealed signature; empty for Google's own, which are long and no text."""
    standard = text.translate(STANDARD_ALPHABET)
    try:
        head = base64.b64decode(standard[: len(standard[:LONGEST_ORIGIN]) // 4 * 4])
        if not any(head.startswith(name.encode()) for name in ORIGINS):
            return ""
        return base64.b64decode(standard + "=" * (-len(standard) % 4)).decode()
    except (binascii.Error, UnicodeError, ValueError):
        return ""


def thinking(text: str, sealed: str | None) -> Thinking:
    if not sealed:
        return Thinking(text=text, origin=ORIGIN)
    signature, origin = unseal(sealed)
    if origin != ORIGIN and signature.startswith(REDACTED):
        return Thinking(text=text, redacted=signature.removeprefix(REDACTED), origin=origin)
    return Thinking(text=text, signature=signature, origin=origin)


def proof(part: Thinking) -> str | None:
    """What stands in `thoughtSignature` for this thinking."""
    if part.redacted is not None:
        return seal(REDACTED + part.redacted, part.origin)
    return seal(part.signature, part.origin) if part.signature else None


# Reading ------------------------------------------------------------------------------------------------------------------


def read_part(part: dict[str, Any]) -> list[Part]:
    """The neutral parts of one of Google's: none for an empty one, two where content that is no call carries a signature.

    Calls and results have no id yet where Google's part has none. Raises msgspec.ValidationError.
    """
    sealed = part.get("thoughtSignature") or None
    if sealed is not None and not isinstance(sealed, str):
        raise msgspec.ValidationError("Expected `str`, got something else - at `$.contents[...].parts[...].thoughtSignature`")
    what = content_in(part)
    match what, part.get(what):
        case "", _ if sealed:
            return [thinking("", sealed)]
        case "text", str(text) if part.get("thought"):
            return [thinking(text, sealed)] if text or sealed else []
        case ("", _) | (_, None):
            return []
        case "functionCall", value:
            return [read_call(msgspec.convert(value, FunctionCall), sealed)]
        case "functionResponse", value:
            return [read_result(msgspec.convert(value, FunctionResponse))]
        case (("text" | "inlineData" | "fileData"), value) if not part.get("thought"):
            content = read_content(what, value)
            return [thinking("", sealed), *content] if sealed else content
        case _:
            return [Opaque(origin=ORIGIN, what=what, value=part)]


def content_in(part: dict[str, Any]) -> str:
    """The name of what a part holds."""
    others = (name for name in part if name not in BESIDES)
    return next((name for name in CONTENT if part.get(name) not in (None, "")), "") or next(others, "")


def read_content(what: str, value: Any) -> list[Part]:
    match what:
        case "text":
            text = msgspec.convert(value, str)
            return [Text(text=text)] if text else []
        case "inlineData":
            return [read_blob(msgspec.convert(value, Blob))]
        case _:
            return [read_file(msgspec.convert(value, FileData))]


def read_blob(blob: Blob) -> Image | File:
    """Google takes both alphabets of base64, and its SDK sends the one for URLs, which no other API reads."""
    data = blob.data.translate(STANDARD_ALPHABET)
    if blob.mime_type.startswith("image/"):
        return Image(mime=blob.mime_type, data=data)
    return File(mime=blob.mime_type or None, data=data, name=blob.display_name)


def read_file(data: FileData) -> Image | File:
    """A file that lies at Google is known to Google alone; anything else is an address like any other."""
    mime = data.mime_type or mimetypes.guess_type(data.file_uri)[0]
    if data.file_uri.startswith(GOOGLE_FILES):
        return File(mime=mime, file_id=data.file_uri, name=data.display_name, origin=ORIGIN)
    if mime and mime.startswith("image/"):
        return Image(mime=mime, url=data.file_uri)
    return File(mime=mime, url=data.file_uri, name=data.display_name)


def read_call(call: FunctionCall, sealed: str | None) -> ToolCall:
    arguments = encode(call.args).decode() if call.args is not None else ""
    if not sealed:
        return ToolCall(id=call.id or "", name=call.name, arguments=arguments, origin=ORIGIN)
    signature, origin = unseal(sealed)
    return ToolCall(id=call.id or "", name=call.name, arguments=arguments, signature=signature, origin=origin)


def read_result(result: FunctionResponse) -> ToolResult:
    text, is_error = ("", False) if result.parts and not result.response else read_response(result.response)
    content: list[Any] = [Text(text=text)] if text else []
    for part in result.parts or ():
        content += [item for item in read_part(part) if isinstance(item, Text | Image | File)]
    return ToolResult(call_id=result.id or "", name=result.name or None, content=tuple(content), is_error=is_error)


def read_response(response: Any) -> tuple[str, bool]:
    """A result's text, and whether it is an error: "output" and "error" are Google's words (FunctionResponse.response),
    "result" is that of its SDK."""
    match response:
        case None:
            return "", False
        case {"error": error} if len(response) == 1:
            return error if isinstance(error, str) else encode(response).decode(), True
        case {"result": str(text)} | {"output": str(text)} if len(response) == 1:
            return text, False
        case _:
            return encode(response).decode(), False


# Writing ------------------------------------------------------------------------------------------------------------------


def render_parts(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Google's parts. The signature of content that is no call stands on that content again; other formats' opaque parts are left
    out, since the text that came of them stands beside them."""
    rendered: list[dict[str, Any]] = []
    waiting: str | None = None
    for part in parts:
        if waiting and isinstance(part, Text | Image | File):
            rendered += [{**item, "thoughtSignature": waiting} for item in render_part(part)]
            waiting = None
            continue
        if waiting:
            rendered.append({"text": "", "thoughtSignature": waiting})
            waiting = None
        if isinstance(part, Thinking) and belongs_to_content(part):
            waiting = part.signature
        else:
            rendered += render_part(part)
    return [*rendered, {"text": "", "thoughtSignature": waiting}] if waiting else rendered


def belongs_to_content(part: Thinking) -> bool:
    return bool(not part.text and part.signature and part.origin == ORIGIN)


def render_part(part: Part) -> list[dict[str, Any]]:
    match part:
        case Text(text=text) | Refusal(text=text):
            return [{"text": text}] if text else []
        case Thinking():
            return [render_thinking(part)]
        case ToolCall():
            return [render_call(part)]
        case Image() | File():
            return [render_media(part)]
        case Opaque(origin=origin, value=value):
            return [value] if origin == ORIGIN and part.what not in ANSWER_NOTES else []
        case ToolResult():
            return []


def render_thinking(part: Thinking) -> dict[str, Any]:
    signature = proof(part)
    return {"text": part.text, "thought": True} | ({"thoughtSignature": signature} if signature else {})


def render_call(call: ToolCall) -> dict[str, Any]:
    function = ({"id": call.id} if call.id else {}) | {"name": call.name, "args": arguments_of(call)}
    return {"functionCall": function} | ({"thoughtSignature": seal(call.signature, call.origin)} if call.signature else {})


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Google wants an object; what the model wrote otherwise is kept in one."""
    call = call_as_function(call)
    if not call.arguments.strip():
        return {}
    arguments = object_in(call.arguments)
    return {"_raw": call.arguments} if arguments is None else arguments


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, if it is one."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def render_media(part: Image | File) -> dict[str, Any]:
    if isinstance(part, File) and part.file_id and not part.data:
        return {"fileData": file_data(part.mime, file_at_google(part))}
    url = part.url or ""
    if not part.data and url.startswith("data:"):
        head, _, data = url.removeprefix("data:").partition(",")
        return {"inlineData": {"mimeType": head.split(";")[0] or mime_of(part), "data": data}}
    if part.data is None:
        return {"fileData": file_data(mime_of(part), url)}
    return {"inlineData": {"mimeType": mime_of(part), "data": part.data}}


def file_data(mime: str | None, uri: str) -> dict[str, Any]:
    return ({"mimeType": mime} if mime else {}) | {"fileUri": uri}


def file_at_google(file: File) -> str:
    if file.origin != ORIGIN or file.file_id is None:
        raise Inexpressible("A file that was uploaded to another provider cannot be read by Gemini; send its content.", "messages")
    return file.file_id


def mime_of(part: Image | File) -> str:
    if part.mime:
        return part.mime
    address = part.url or (part.name if isinstance(part, File) else None) or ""
    guessed = mimetypes.guess_type(address.split("?")[0])[0]
    return guessed or (DEFAULT_IMAGE if isinstance(part, Image) else DEFAULT_FILE)
