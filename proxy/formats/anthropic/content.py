"""Content blocks of requests and responses, parsed into neutral parts and rendered from them."""

import re
from collections.abc import Iterable
from typing import Any, assert_never

from msgspec.structs import replace

from proxy.formats.anthropic.opaque_parts import parse_opaque_part
from proxy.formats.anthropic.wire import (
    FORMAT,
    Block,
    RedactedBlock,
    SearchResultBlock,
    SourceBlock,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    decode_any,
)
from proxy.formats.json_body import DECODE_ERRORS, convert_json, encode
from proxy.formats.media import URL_PREFIXES, decode_base64_text, detect_media_type, parse_data_url
from proxy.formats.neutral import (
    Citation,
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
    VendorTool,
)
from proxy.formats.seals import attach_call_signatures, parse_thinking, render_signature, seal, unseal
from proxy.formats.tool_calls import as_function_call, call_id_digest
from proxy.formats.tools.names import flat_name

VALID_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
INVALID_CALL_ID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
IMAGE_TYPES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
PDF_TYPE = "application/pdf"
ANY_IMAGE_TYPE = "image/*"


def parse_parts(content: str | list[dict[str, Any]] | None) -> tuple[Part, ...]:
    """Parse the content of a message into parts. Raises InvalidRequest."""
    if content is None or isinstance(content, str):
        return (Text(text=content),) if content else ()
    return tuple(attach_call_signatures([part for block in content for part in parse_part(block)]))


def parse_response_parts(content: list[dict[str, Any]]) -> tuple[Part, ...]:
    """Parse the content of a response into parts. Raises InvalidRequest.

    Some Anthropic-compatible servers send optional fields as null. Such fields are treated as absent.
    """
    return tuple(
        attach_call_signatures([part for block in content for part in parse_part_ignoring_nulls(block)])
    )


def parse_part_ignoring_nulls(block: dict[str, Any]) -> tuple[Part, ...]:
    try:
        parts = parse_part(block)
    except InvalidRequest:
        stated = {name: value for name, value in block.items() if value is not None}
        parts = parse_part(stated)
    return tuple(own_if_unsigned(part) if isinstance(part, Thinking) else part for part in parts)


def own_if_unsigned(thinking: Thinking) -> Thinking:
    """Return thinking of a response, with this format as its origin if its origin is not known.

    Thinking without a signature comes from a compatible server, which does not sign thinking.
    """
    return replace(thinking, origin=thinking.origin or FORMAT)


def parse_part(block: dict[str, Any]) -> tuple[Part, ...]:
    """Parse one block. Raises InvalidRequest.

    A document that consists of blocks becomes several parts. A block that changes the tools becomes no part.
    """
    match block.get("type"):
        case "text":
            text = convert_json(block, TextBlock)
            return (Text(text=text.text, cache=text.cache, citations=tuple(parse_citations(text.citations))),)
        case "image":
            return parse_image(convert_json(block, SourceBlock), block)
        case "document":
            return parse_document(convert_json(block, SourceBlock), block)
        case "search_result":
            return parse_search_result(convert_json(block, SearchResultBlock))
        case "tool_use":
            call = convert_json(block, ToolUseBlock)
            name = flat_name(call.toolset_name or "", call.name)
            arguments = encode({} if call.input is None else call.input).decode()
            return (ToolCall(id=call.id, name=name, arguments=arguments, cache=call.cache),)
        case "tool_result":
            return (parse_tool_result(convert_json(block, ToolResultBlock)),)
        case "thinking":
            thinking = convert_json(block, ThinkingBlock)
            return parse_thinking(thinking.thinking, thinking.signature, FORMAT)
        case "redacted_thinking":
            data = convert_json(block, RedactedBlock).data
            sealed = unseal(data, redacted=True)
            return (Thinking(redacted=data, origin=FORMAT),) if sealed is None else sealed
        case "tool_reference":
            reference = convert_json(block, ToolReferenceBlock)
            return (Text(text=f"The tool {reference.tool_name} can be used now.", cache=reference.cache),)
        case "tool_addition" | "tool_removal":
            return ()
        case _:
            return (parse_opaque_part(block, convert_json(block, Block).type),)


def parse_citations(citations: Iterable[Any] | None) -> list[Citation]:
    """Parse the citations of web pages. Citations of documents that the client has sent are left out.

    Each citation applies to the complete text of its block.
    """
    return [citation for wire in citations or () if (citation := parse_citation(wire))]


def parse_citation(wire: Any) -> Citation | None:
    match wire:
        case {"type": "web_search_result_location", "url": str(url)} | {
            "type": "search_result_location",
            "source": str(url),
        }:
            title, quote = (
                text if isinstance(text := wire.get(name), str) else "" for name in ("title", "cited_text")
            )
            return Citation(url=url, title=title, quote=quote) if url.startswith(URL_PREFIXES) else None
        case _:
            return None


def parse_image(block: SourceBlock, fields: dict[str, Any]) -> tuple[Part, ...]:
    source = block.source
    match source.type:
        case "base64":
            return (Image(media_type=source.media_type, data=source.data, cache=block.cache),)
        case "url":
            return (Image(url=source.url, cache=block.cache),)
        case "file":
            return (
                File(media_type=ANY_IMAGE_TYPE, file_id=source.file_id, origin=FORMAT, cache=block.cache),
            )
        case _:
            return (parse_unknown_source("image", fields),)


def parse_document(block: SourceBlock, fields: dict[str, Any]) -> tuple[Part, ...]:
    """Parse a document.

    Other providers do not have all of these document types. A plain-text document becomes text, and a
    document of blocks becomes the parts of its blocks. In both cases, the title and the context come first,
    as text. If the document is a file, its context becomes a text before the file.
    """
    source, context = block.source, heading_parts(block.context)
    match source.type:
        case "base64":
            return (
                *context,
                File(media_type=source.media_type, data=source.data, name=block.title, cache=block.cache),
            )
        case "url":
            return (*context, File(media_type=PDF_TYPE, url=source.url, name=block.title, cache=block.cache))
        case "file":
            return (
                *context,
                File(file_id=source.file_id, name=block.title, origin=FORMAT, cache=block.cache),
            )
        case "text":
            heading = "".join(part.text for part in heading_parts(block.title, block.context))
            return (Text(text=heading + (source.data or ""), cache=block.cache),)
        case "content":
            return (*heading_parts(block.title, block.context), *parse_parts(source.content))
        case _:
            return (parse_unknown_source("document", fields),)


def parse_unknown_source(kind: str, fields: dict[str, Any]) -> Opaque:
    """Parse content from a source that only Anthropic has.

    It counts as data of the caller, because the conversation makes no sense without it.
    """
    return Opaque(origin=FORMAT, kind=kind, value=fields, is_caller_data=True)


def heading_parts(*lines: str | None) -> tuple[Text, ...]:
    return tuple(Text(text=f"{line}\n\n") for line in lines if line)


def parse_search_result(block: SearchResultBlock) -> tuple[Part, ...]:
    """Parse a search result that the client supplies.

    It becomes a text that starts with the title and URL of the result.
    """
    text = "".join(part.text for part in parse_parts(block.content) if isinstance(part, Text))
    heading = "".join(part.text for part in heading_parts(block.title, block.source))
    return (Text(text=heading + text, cache=block.cache),)


def parse_tool_result(block: ToolResultBlock) -> ToolResult:
    content = tuple(
        part for part in parse_parts(block.content) if isinstance(part, Text | Image | File | Opaque)
    )
    return ToolResult(
        call_id=block.tool_use_id, content=content, is_error=bool(block.is_error), cache=block.cache
    )


def must_omit(part: Part) -> bool:
    """Return whether a part must be left out. The API rejects empty texts."""
    return isinstance(part, Text | Refusal) and not part.text.strip()


def render_part(part: Part, param: str = "messages") -> dict[str, Any]:
    """Render a part of a request as a block. Raises UnsupportedFeature."""
    match part:
        case Text():
            return with_cache_control(render_text(part), part.cache)
        case Refusal():
            return {"type": "text", "text": part.text}
        case Image():
            return with_cache_control(render_image(part, param), part.cache)
        case File():
            return with_cache_control(render_file(part, param), part.cache)
        case ToolCall():
            return with_cache_control(render_tool_call(part), part.cache)
        case ToolResult():
            return with_cache_control(render_tool_result(part, param), part.cache)
        case Thinking():
            return render_thinking(part)
        case Opaque():
            value: dict[str, Any] = part.value
            return value
        case _:
            assert_never(part)


def with_cache_control(block: dict[str, Any], cache: str | None) -> dict[str, Any]:
    if cache:
        block["cache_control"] = (
            {"type": "ephemeral", "ttl": cache} if cache == "1h" else {"type": "ephemeral"}
        )
    return block


def render_text(part: Text) -> dict[str, Any]:
    """Render text without its citations.

    The API accepts only citations that it has issued itself, with their encrypted index. Neutral citations do
    not contain this index.
    """
    return {"type": "text", "text": part.text}


def render_thinking(part: Thinking) -> dict[str, Any]:
    """Render thinking. The block contains the text, so a seal in the same block omits it."""
    without_text = replace(part, text="")
    if part.redacted is not None:
        data = part.redacted if part.origin == FORMAT else seal(without_text)
        return {"type": "redacted_thinking", "data": data}
    return {"type": "thinking", "thinking": part.text, "signature": render_signature(without_text, FORMAT)}


def render_tool_call(part: ToolCall, vendor: VendorTool | None = None) -> dict[str, Any]:
    """Render a call. `vendor` is the client's declaration of the tool, if the tool is a vendor tool."""
    name = (
        {"name": vendor.name, "toolset_name": vendor.group}
        if vendor and vendor.group
        else {"name": part.name}
    )
    return {
        "type": "tool_use",
        "id": render_call_id(part.id),
        **name,
        "input": render_input(as_function_call(part).arguments),
    }


def render_input(arguments: str) -> dict[str, Any]:
    """Render the arguments of a call as an object, because the API requires one.

    Arguments that are not a JSON object are sent as text in `_raw`.
    """
    if not arguments.strip():
        return {}
    try:
        value = decode_any(arguments.encode())
    except DECODE_ERRORS:
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"_raw": arguments}


def render_call_id(neutral_id: str) -> str:
    """Return an id that the API accepts: the same id if it is valid, otherwise one derived from it."""
    if VALID_CALL_ID.fullmatch(neutral_id):
        return neutral_id
    return f"{INVALID_CALL_ID_CHARACTER.sub('_', neutral_id)[:47]}_{call_id_digest(neutral_id)[:16]}"


def render_tool_result(part: ToolResult, param: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": render_call_id(part.call_id)}
    content = [render_part(inner, param) for inner in part.content if not must_omit(inner)]
    if content:
        plain = len(content) == 1 and content[0].keys() == {"type", "text"}
        block["content"] = content[0]["text"] if plain else content
    if part.is_error:
        block["is_error"] = True
    return block


def render_image(part: Image, param: str) -> dict[str, Any]:
    media_type, data, url = part.media_type, part.data, part.url
    if data is None and url and (embedded := parse_data_url(url)):
        media_type, data = embedded
    if data is not None:
        media_type = image_media_type(media_type, data)
        if media_type not in IMAGE_TYPES:
            raise UnsupportedFeature(
                f"Claude accepts JPEG, PNG, GIF and WebP images, not {media_type or 'this type'}.", param
            )
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    return {"type": "image", "source": {"type": "url", "url": require_url(url, param)}}


def image_media_type(media_type: str | None, data: str) -> str | None:
    if media_type == "image/jpg":
        return "image/jpeg"
    return media_type if media_type in IMAGE_TYPES else detect_media_type(data) or media_type


def require_url(url: str | None, param: str) -> str:
    if url and url.startswith(URL_PREFIXES):
        return url
    raise UnsupportedFeature(
        f"Claude cannot open the URL {(url or '')[:60]!r}. Send an http or https URL.", param
    )


def render_file(part: File, param: str) -> dict[str, Any]:
    if part.file_id is not None and part.data is None and part.url is None:
        return render_stored_file(part, param)
    media_type = part.media_type or (detect_media_type(part.data) if part.data else None)
    if media_type and media_type.startswith("image/"):
        return render_image(Image(media_type=media_type, data=part.data, url=part.url), param)
    source = render_document_source(part, media_type, param)
    return with_title({"type": "document", "source": source}, part.name)


def with_title(block: dict[str, Any], name: str | None) -> dict[str, Any]:
    return block | {"title": name} if name else block


def render_stored_file(part: File, param: str) -> dict[str, Any]:
    if part.origin != FORMAT:
        raise UnsupportedFeature(
            f"The file {part.file_id} is stored with another provider. Send its content instead.", param
        )
    source = {"type": "file", "file_id": part.file_id}
    if part.media_type and part.media_type.startswith("image/"):
        return {"type": "image", "source": source}
    return with_title({"type": "document", "source": source}, part.name)


def render_document_source(part: File, media_type: str | None, param: str) -> dict[str, Any]:
    """Render the source of a document, which must be PDF or plain text. Raises UnsupportedFeature."""
    if part.data is not None:
        if media_type == PDF_TYPE:
            return {"type": "base64", "media_type": PDF_TYPE, "data": part.data}
        if media_type and (media_type.startswith("text/") or media_type == "application/json"):
            text = decode_base64_text(part.data)
            if text is None:
                raise UnsupportedFeature("The text file is not UTF-8 text in base64.", param)
            return {"type": "text", "media_type": "text/plain", "data": text}
    elif media_type in (PDF_TYPE, None):
        return {"type": "url", "url": require_url(part.url, param)}
    elif media_type.startswith("text/"):
        raise UnsupportedFeature(
            f"Claude loads only PDF files from URLs, not {media_type}. Send the content of the file instead.",
            param,
        )
    raise UnsupportedFeature(
        f"Claude accepts PDF and plain text, not {media_type or 'files without a media type'}.", param
    )
