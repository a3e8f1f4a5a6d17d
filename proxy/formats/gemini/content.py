"""Parts of Gemini's contents, parsed and rendered (ai.google.dev/api/caching#Part)."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.gemini.reasoning import (
    is_content_signature,
    is_synthetic,
    render_thinking,
)
from proxy.formats.gemini.wire import (
    FORMAT,
    Blob,
    FileData,
    FunctionCall,
    FunctionResponse,
)
from proxy.formats.json_body import DECODE_ERRORS, as_dict, convert_json, encode
from proxy.formats.media import URL_SAFE_BASE64, guess_media_type, parse_data_url
from proxy.formats.neutral import (
    File,
    Image,
    InvalidRequest,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)
from proxy.formats.seals import attach_call_signatures, parse_thinking, unseal
from proxy.formats.tool_calls import as_function_call
from proxy.formats.tools.opaque_parts import call_text, code_text, output_text

METADATA_FIELDS = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
"""Fields of a candidate other than its content.

They become opaque parts, because other formats have no such fields.
"""
PART_METADATA_FIELDS = (
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
"""Fields that describe the content of a part. Other formats do not support them."""
NON_CONTENT_FIELDS = frozenset(("thought", "thoughtSignature", *PART_METADATA_FIELDS))
CONTENT_FIELDS = (
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
"""The fields that hold the content of a part.

A part has one of them, and its other fields describe this content.
"""
GOOGLE_FILE_PREFIXES = ("https://generativelanguage.googleapis.com/", "gs://", "files/")
DEFAULT_IMAGE_TYPE, DEFAULT_FILE_TYPE = "image/jpeg", "application/octet-stream"


def parse_part(part: dict[str, Any]) -> list[Part]:
    """Parse one of Google's parts. Raises InvalidRequest.

    An empty part yields no neutral part. If text or media is signed, the signature becomes a thinking part
    before it. If the signature of a call is a seal, the sealed thinking is put before the call. Calls and
    results get an empty id if Google's part has none.
    """
    signature = parse_signature(part)
    name = content_field(part)
    match name, part.get(name):
        case "text", str(text) if part.get("thought") and signature is None:
            # Google does not sign the summaries of its thoughts.
            return [Thinking(text=text, origin=FORMAT)] if text else []
        case "text", str(text) if part.get("thought"):
            return list(parse_thinking(text, signature, FORMAT))
        case ("", _) | (_, None):
            return list(parse_thinking("", signature, FORMAT))
        case "functionCall", value:
            return parse_tool_call(convert_json(value, FunctionCall), signature)
        case "functionResponse", value:
            return [parse_tool_result(convert_json(value, FunctionResponse))]
        case (("text" | "inlineData" | "fileData"), value) if not part.get("thought"):
            return [*parse_thinking("", signature, FORMAT), *parse_content(name, value)]
        case _:
            return [
                Opaque(origin=FORMAT, kind=name, value=part, text=opaque_text(name, as_dict(part.get(name))))
            ]


def opaque_text(field: str, value: dict[str, Any]) -> str:
    """Return the text of a part that comes from one of Google's own tools.

    The result is empty if only Google can read the part.
    """
    match field:
        case "executableCode":
            return code_text(value.get("code"), value.get("language"))
        case "codeExecutionResult":
            return output_text(value.get("output"))
        case "toolCall":
            return call_text(value.get("toolType"), value.get("args"))
        case _:
            return ""


def parse_signature(part: dict[str, Any]) -> str | None:
    signature = part.get("thoughtSignature") or None
    if signature is not None and not isinstance(signature, str):
        raise InvalidRequest(
            "The field thoughtSignature must be a string.", "contents.parts.thoughtSignature"
        )
    return None if signature is None or is_synthetic(signature) else signature


def content_field(part: dict[str, Any]) -> str:
    """Return the name of the field that holds the content of a part."""
    others = (name for name in part if name not in NON_CONTENT_FIELDS)
    return next((name for name in CONTENT_FIELDS if part.get(name) not in (None, "")), "") or next(others, "")


def parse_content(field: str, value: Any) -> list[Part]:
    match field:
        case "text":
            text = convert_json(value, str)
            return [Text(text=text)] if text else []
        case "inlineData":
            return [parse_blob(convert_json(value, Blob))]
        case _:
            return [parse_file(convert_json(value, FileData))]


def parse_blob(blob: Blob) -> Image | File:
    """Parse inline data.

    Google accepts the standard and the URL-safe alphabet of base64. Google's SDK sends the URL-safe one,
    which no other API accepts.
    """
    data = blob.data.translate(URL_SAFE_BASE64)
    if blob.mime_type.startswith("image/"):
        return Image(media_type=blob.mime_type, data=data)
    return File(media_type=blob.mime_type or None, data=data, name=blob.display_name)


def parse_file(data: FileData) -> Image | File:
    """Parse a file.

    A file that Google stores keeps Google as its origin, because no other provider can read it. Any other
    file is a plain URL.
    """
    media_type = data.mime_type or guess_media_type(data.file_uri)
    if data.file_uri.startswith(GOOGLE_FILE_PREFIXES):
        return File(media_type=media_type, file_id=data.file_uri, name=data.display_name, origin=FORMAT)
    if media_type and media_type.startswith("image/"):
        return Image(media_type=media_type, url=data.file_uri)
    return File(media_type=media_type, url=data.file_uri, name=data.display_name)


def parse_tool_call(call: FunctionCall, signature: str | None) -> list[Part]:
    """Parse a call. If its signature is a seal, the sealed thinking comes before the call."""
    arguments = encode(call.args).decode() if call.args is not None else ""
    parsed = ToolCall(id=call.id or "", name=call.name, arguments=arguments, origin=FORMAT)
    sealed = unseal(signature or "")
    if sealed is None:
        return [replace(parsed, signature=signature)]
    return attach_call_signatures([*sealed, parsed])


def parse_tool_result(result: FunctionResponse) -> ToolResult:
    text, is_error = (
        ("", False) if result.parts and not result.response else parse_function_response(result.response)
    )
    content: list[Any] = [Text(text=text)] if text else []
    for part in result.parts or ():
        content += [item for item in parse_part(part) if isinstance(item, Text | Image | File)]
    return ToolResult(
        call_id=result.id or "", name=result.name or None, content=tuple(content), is_error=is_error
    )


def parse_function_response(response: Any) -> tuple[str, bool]:
    """Return the text of a tool result, and whether it is an error.

    Google names the fields "output" and "error" (FunctionResponse.response); its SDK uses "result".
    """
    match response:
        case None:
            return "", False
        case {"error": error} if len(response) == 1:
            return error if isinstance(error, str) else encode(response).decode(), True
        case {"result": str(text)} | {"output": str(text)} if len(response) == 1:
            return text, False
        case _:
            return encode(response).decode(), False


def render_parts(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Render parts as Google's.

    A signature in a thinking part without text goes to the text or media after it, or to an empty part if
    something else follows. Opaque parts of other formats are left out.
    """
    rendered: list[dict[str, Any]] = []
    signature: str | None = None
    for part in parts:
        if signature and isinstance(part, Text | Image | File):
            rendered += [{**item, "thoughtSignature": signature} for item in render_part(part)]
            signature = None
            continue
        if signature:
            rendered.append({"text": "", "thoughtSignature": signature})
            signature = None
        if isinstance(part, Thinking) and is_content_signature(part):
            signature = part.signature
        else:
            rendered += render_part(part)
    return [*rendered, {"text": "", "thoughtSignature": signature}] if signature else rendered


def render_part(part: Part) -> list[dict[str, Any]]:
    match part:
        case Text(text=text) | Refusal(text=text):
            return [{"text": text}] if text else []
        case Thinking():
            return [render_thinking(part)]
        case ToolCall():
            return [render_tool_call(part)]
        case Image() | File():
            return [render_media(part)]
        case Opaque(origin=origin, value=value):
            return [value] if origin == FORMAT and part.kind not in METADATA_FIELDS else []
        case ToolResult():
            return []


def render_tool_call(call: ToolCall) -> dict[str, Any]:
    function = ({"id": call.id} if call.id else {}) | {"name": call.name, "args": render_arguments(call)}
    return {"functionCall": function} | ({"thoughtSignature": call.signature} if call.signature else {})


def render_arguments(call: ToolCall) -> dict[str, Any]:
    """Render the arguments of a call as an object, which Google requires.

    Arguments that are not a JSON object are sent as text in `_raw`.
    """
    call = as_function_call(call)
    if not call.arguments.strip():
        return {}
    arguments = parse_object(call.arguments)
    return {"_raw": call.arguments} if arguments is None else arguments


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text contains; None if the text is not a JSON object."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except DECODE_ERRORS:
        return None
    return value if isinstance(value, dict) else None


def render_media(part: Image | File) -> dict[str, Any]:
    if isinstance(part, File) and part.file_id and not part.data:
        return {"fileData": render_file_data(part.media_type, require_google_file(part))}
    url = part.url or ""
    if not part.data and (embedded := parse_data_url(url)):
        return {"inlineData": {"mimeType": embedded.media_type or media_type_of(part), "data": embedded.data}}
    if part.data is None:
        return {"fileData": render_file_data(media_type_of(part), url)}
    return {"inlineData": {"mimeType": media_type_of(part), "data": part.data}}


def render_file_data(media_type: str | None, uri: str) -> dict[str, Any]:
    return ({"mimeType": media_type} if media_type else {}) | {"fileUri": uri}


def require_google_file(file: File) -> str:
    if file.origin != FORMAT or file.file_id is None:
        raise UnsupportedFeature(
            "Gemini cannot read a file that was uploaded to another provider. Send its content instead.",
            "messages",
        )
    return file.file_id


def media_type_of(part: Image | File) -> str:
    if part.media_type:
        return part.media_type
    address = part.url or (part.name if isinstance(part, File) else None) or ""
    guessed = guess_media_type(address.split("?")[0])
    return guessed or (DEFAULT_IMAGE_TYPE if isinstance(part, Image) else DEFAULT_FILE_TYPE)
