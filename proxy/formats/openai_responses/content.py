"""Content parts and tool calls of requests and responses, parsed and rendered."""

import mimetypes
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from proxy.formats.json_body import as_str, dict_items, encode
from proxy.formats.media import data_url, guess_media_type, parse_data_url
from proxy.formats.neutral import (
    Citation,
    File,
    Image,
    Opaque,
    Part,
    Refusal,
    Text,
    ToolCall,
    UnsupportedFeature,
)
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.tool_calls import unwrap_free_text

PARAGRAPH_BREAK = "\n\n"
OWN_ID = "gateway"
"""A text in every id that the gateway generates for an item of a response.

OpenAI's ids consist of a prefix and hexadecimal digits.
"""
DEFAULT_FILE_TYPE = "application/pdf"
"""The media type that is assumed for a file of unknown type."""


def new_id(prefix: str) -> str:
    """Return a new id for an item or a response that the gateway generates."""
    return f"{prefix}_{OWN_ID}{uuid4().hex}"


def is_own_id(item_id: Any) -> bool:
    """Return whether the gateway has generated this id. OpenAI does not know such ids."""
    return OWN_ID in as_str(item_id)


def parse_tool_call(item: dict[str, Any], call_id: str = "") -> ToolCall:
    custom = item.get("type") == "custom_tool_call"
    arguments = item.get("input" if custom else "arguments")
    text = (
        arguments if isinstance(arguments, str) else "" if arguments is None else encode(arguments).decode()
    )
    known_id = call_id or as_str(item.get("call_id")) or as_str(item.get("id")) or f"call_{uuid4().hex[:24]}"
    return ToolCall(id=known_id, name=as_str(item.get("name")), arguments=text, custom=custom)


def render_tool_call(call: ToolCall, custom: bool) -> dict[str, Any]:
    if custom:
        text = call.arguments if call.custom else unwrap_free_text(call.arguments)
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": text}
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments or "{}",
    }


def parse_content(content: Any) -> tuple[Part, ...]:
    match content:
        case str():
            return (Text(text=content),)
        case list() | None:
            return tuple(parse_part(part) for part in dict_items(content))
        case _:
            return (Text(text=encode(content).decode()),)


def parse_part(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str() as text}:
            return Text(
                text=text,
                cache=parse_cache_breakpoint(part),
                citations=tuple(parse_citations(part.get("annotations"))),
            )
        case {"type": "output_text", "text": None}:
            return Text()
        case {"type": "refusal", "refusal": str() as text}:
            return Refusal(text=text)
        case {"type": "input_image"}:
            return replace(parse_image(part), cache=parse_cache_breakpoint(part))
        case {"type": "input_file"}:
            return replace(parse_file(part), cache=parse_cache_breakpoint(part))
        case {"type": "input_audio", "input_audio": {"data": str() as data, "format": str() as kind}}:
            return File(media_type=f"audio/{kind}", data=data)
        case _:
            return Opaque(origin=FORMAT, kind=as_str(part.get("type")) or "content", value=part)


def parse_citations(annotations: Any) -> list[Citation]:
    return [citation for annotation in dict_items(annotations) if (citation := parse_citation(annotation))]


def parse_citation(annotation: dict[str, Any]) -> Citation | None:
    """Return the citation of a web page; None for a cited file, which is stored at OpenAI and has no URL."""
    url, title = as_str(annotation.get("url")), as_str(annotation.get("title"))
    start, end = (
        place if isinstance(place := annotation.get(name), int) else None
        for name in ("start_index", "end_index")
    )
    return Citation(url=url, title=title, start=start, end=end) if url else None


def parse_cache_breakpoint(part: dict[str, Any]) -> str | None:
    """Return the lifetime of a prompt cache breakpoint, `5m` or `1h`; None if the part has no breakpoint.

    The field `prompt_cache_breakpoint` may set the minimum lifetime of the cache.
    """
    match part.get("prompt_cache_breakpoint"):
        case {"ttl": str()}:
            return "1h"
        case dict():
            return "5m"
        case _:
            return None


def parse_image(part: dict[str, Any]) -> Image | File:
    url, detail = as_str(part.get("image_url")), as_str(part.get("detail")) or None
    if not url and (file_id := as_str(part.get("file_id"))):
        return File(media_type="image/*", file_id=file_id, origin=FORMAT)
    if embedded := parse_data_url(url):
        return Image(media_type=embedded.media_type, data=embedded.data, detail=detail)
    return Image(url=url, detail=detail)


def parse_file(part: dict[str, Any]) -> File:
    name, data = as_str(part.get("filename")) or None, as_str(part.get("file_data"))
    if embedded := parse_data_url(data):
        return File(media_type=embedded.media_type, data=embedded.data, name=name)
    if data:
        return File(media_type=guess_media_type(name) or DEFAULT_FILE_TYPE, data=data, name=name)
    if url := as_str(part.get("file_url")):
        return File(url=url, name=name, media_type=guess_media_type(url))
    return File(file_id=as_str(part.get("file_id")), name=name, origin=FORMAT)


def render_part(part: Part) -> dict[str, Any]:
    """Render a part of a message to the model. Raises UnsupportedFeature."""
    match part:
        case Text() | Refusal():
            return {"type": "input_text", "text": part.text}
        case Image():
            url = part.url or data_url(part.media_type or "image/png", part.data or "")
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case File():
            return render_file(part)
        case Opaque(value=dict() as value):
            return value
        case _:
            raise UnsupportedFeature(
                "A message to the model cannot contain thinking or tool calls.", "messages"
            )


def render_file(part: File) -> dict[str, Any]:
    """Render a file. Raises UnsupportedFeature.

    A `file_id` is valid in both formats of OpenAI. The Responses API does not accept audio and video files
    (docs/guides/pdf-files, docs/guides/audio).
    """
    mime = part.media_type or guess_media_type(part.name) or DEFAULT_FILE_TYPE
    if mime.startswith(("audio/", "video/")):
        raise UnsupportedFeature(f"The Responses API does not accept files of the type {mime}.", "messages")
    if part.file_id:
        if part.origin not in (FORMAT, "openai_chat"):
            raise UnsupportedFeature(
                "OpenAI cannot read a file that was uploaded to another provider. Send its content.",
                "messages",
            )
        return {"type": "input_image" if mime.startswith("image/") else "input_file", "file_id": part.file_id}
    if mime.startswith("image/"):
        return render_part(Image(media_type=mime, data=part.data, url=part.url))
    if part.url and part.data is None:
        return {"type": "input_file", "file_url": part.url}
    name = part.name or "file" + (mimetypes.guess_extension(mime) or "")
    return {"type": "input_file", "filename": name, "file_data": data_url(mime, part.data or "")}


def render_output_text(
    text: str, citations: Iterable[Citation] = (), logprobs: Iterable[Any] = ()
) -> dict[str, Any]:
    annotations = [render_annotation(citation, len(text)) for citation in citations]
    return {
        "type": "output_text",
        "annotations": annotations,
        "logprobs": [render_logprob(entry) for entry in logprobs],
        "text": text,
    }


def render_annotation(citation: Citation, length: int) -> dict[str, Any]:
    """Render a citation in a text of this length, in characters."""
    start, end = citation.span(length)
    title = citation.title or citation.url
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": title,
        "start_index": start,
        "end_index": end,
    }


def render_logprob(entry: Any) -> Any:
    """Render the log probability of a token.

    This format requires the lists `bytes` and `top_logprobs`, which chat completions may leave null.
    """
    if not isinstance(entry, dict):
        return {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []}
    others = [{**other, "bytes": other.get("bytes") or []} for other in dict_items(entry.get("top_logprobs"))]
    return {**entry, "bytes": entry.get("bytes") or [], "top_logprobs": others}
