"""Content and tool calls of messages in requests and responses, parsed and rendered."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from proxy.formats.json_body import as_dict, as_list, as_str, encode
from proxy.formats.media import (
    AUDIO_FORMATS,
    AUDIO_MEDIA_TYPES,
    URL_PREFIXES,
    data_url,
    decode_base64_text,
    guess_media_type,
    parse_data_url,
)
from proxy.formats.neutral import (
    File,
    Image,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    UnsupportedFeature,
)
from proxy.formats.openai_chat.capabilities import MAX_CALL_ID_LENGTH
from proxy.formats.openai_chat.reasoning import parse_call_signature
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.tool_calls import call_id_digest

LINKED_FILE_TYPES = ("video_url", "document_url", "file_url")
"""Part types of compatible servers: video (vLLM, Alibaba), documents (Mistral), files (Perplexity)."""
TEXT_MEDIA_TYPES = ("application/json", "application/xml", "application/x-yaml")


# Reading ------------------------------------------------------------------------------------------


def parse_content(content: Any, cache: str | None = None) -> list[Part]:
    """Return the parts of a content field. `cache` is the message's breakpoint, set on the last part."""
    if isinstance(content, str):
        return [Text(text=content, cache=cache)] if content else []
    parts = [parse_part(item) for item in as_list(content) if isinstance(item, str | dict)]
    if cache and parts and isinstance(last := parts[-1], Text | Image | File):
        parts[-1] = msgspec.structs.replace(last, cache=last.cache or cache)
    return parts


def parse_part(item: str | dict[str, Any]) -> Part:
    """Return one part. A part that only this format knows becomes an opaque part."""
    if isinstance(item, str):
        return Text(text=item)
    cache = parse_cache_control(item.get("cache_control")) or parse_cache_breakpoint(item)
    match item.get("type"):
        case "text" | "input_text" | "output_text":
            return Text(text=as_str(item.get("text")), cache=cache)
        case "image_url":
            return parse_image(item["image_url"], cache) if "image_url" in item else Text()
        case "refusal":
            return Refusal(text=as_str(item.get("refusal")))
        case "thinking":
            return Thinking(text=parse_thinking_text(item.get("thinking")), origin=FORMAT)
        case "input_audio" if isinstance(audio := item.get("input_audio"), dict):
            name = as_str(audio.get("format"))
            return File(
                media_type=AUDIO_MEDIA_TYPES.get(name, f"audio/{name or 'wav'}"),
                data=as_str(audio.get("data")),
                cache=cache,
                origin=FORMAT,
            )
        case "file" if isinstance(file := item.get("file"), dict):
            return parse_file(file, cache)
        case str(kind) if kind in LINKED_FILE_TYPES:
            return parse_linked_file(item.get(kind), kind, cache)
        case None if isinstance(item.get("text"), str):
            return Text(text=item["text"], cache=cache)
        case kind:
            return Opaque(origin=FORMAT, kind=as_str(kind) or "content", value=item)


def parse_cache_control(wire: Any) -> str | None:
    """Return the lifetime of Anthropic's cache breakpoint, `5m` or `1h`, or None.

    Routers to Anthropic's models accept it on parts, messages and tools
    (openrouter.ai/docs/features/prompt-caching).
    """
    match wire:
        case {"type": "ephemeral", **rest}:
            return "1h" if rest.get("ttl") == "1h" else "5m"
        case _:
            return None


def parse_cache_breakpoint(part: dict[str, Any]) -> str | None:
    """Return the lifetime of OpenAI's cache breakpoint, `prompt_cache_breakpoint`, or None.

    The field may contain the minimum lifetime of the cache.
    """
    mark = as_dict(part.get("prompt_cache_breakpoint"))
    return ("1h" if mark.get("ttl") else "5m") if mark else None


def parse_thinking_text(value: Any) -> str:
    """Return the text of thinking. Mistral sends it as a list (docs.mistral.ai/capabilities/reasoning)."""
    return (
        value
        if isinstance(value, str)
        else "".join(as_str(as_dict(item).get("text")) for item in as_list(value))
    )


def parse_image(value: Any, cache: str | None = None) -> Image:
    url = as_str(value.get("url")) if isinstance(value, dict) else as_str(value)
    detail = as_str(as_dict(value).get("detail")) or None
    if embedded := parse_data_url(url):
        return Image(media_type=embedded.media_type, data=embedded.data, detail=detail, cache=cache)
    return Image(url=url, detail=detail, cache=cache)


def parse_images(message: dict[str, Any]) -> list[Image]:
    """Return the images that a model generated, from OpenRouter's field.

    Source: openrouter.ai/docs/features/multimodal/image-generation.
    """
    images = (as_dict(image) for image in as_list(message.get("images")))
    return [parse_image(image["image_url"]) for image in images if "image_url" in image]


def parse_file(file: dict[str, Any], cache: str | None) -> File:
    data, name, file_id = (
        as_str(file.get("file_data")),
        as_str(file.get("filename")) or None,
        as_str(file.get("file_id")) or None,
    )
    if embedded := parse_data_url(data):
        return File(media_type=embedded.media_type, data=embedded.data, name=name, cache=cache, origin=FORMAT)
    if data.startswith(URL_PREFIXES):
        return File(media_type=guess_media_type(data), url=data, name=name, cache=cache, origin=FORMAT)
    mime = as_str(file.get("format")) or guess_media_type(name)
    return File(
        media_type=mime if data else None,
        data=data or None,
        file_id=file_id,
        name=name,
        cache=cache,
        origin=FORMAT,
    )


def parse_linked_file(value: Any, kind: str, cache: str | None) -> File:
    url = as_str(value.get("url")) if isinstance(value, dict) else as_str(value)
    if embedded := parse_data_url(url):
        return File(media_type=embedded.media_type, data=embedded.data, cache=cache, origin=FORMAT)
    if "://" not in url:
        return File(data=url, cache=cache, origin=FORMAT)
    guess = guess_media_type(url)
    return File(
        media_type=guess or ("video/mp4" if kind == "video_url" else "application/pdf"),
        url=url,
        cache=cache,
        origin=FORMAT,
    )


def parse_tool_call(wire: dict[str, Any], call_id: str) -> ToolCall:
    """Return one entry of `tool_calls`.

    Some servers omit the type, and Ollama sends the arguments as an object.
    """
    function, free = as_dict(wire.get("function")), as_dict(wire.get("custom"))
    custom = bool(free) and not function.get("name")
    body = free if custom else function
    arguments = parse_arguments(body.get("input") if custom else body.get("arguments"))
    signed = parse_call_signature(wire)
    return ToolCall(
        id=call_id,
        name=as_str(body.get("name")),
        arguments=arguments,
        custom=custom,
        signature=signed.signature if signed else None,
        origin=signed.origin if signed else FORMAT,
        cache=parse_cache_control(wire.get("cache_control")),
    )


def parse_arguments(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else encode(value).decode()


# Writing ------------------------------------------------------------------------------------------


def render_tool_call(call: ToolCall) -> dict[str, Any]:
    """Return one entry of `tool_calls`.

    Missing arguments become an empty object, because clients parse arguments as JSON.
    """
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }


def render_call_id(neutral_id: str, exact_length: int = 0) -> str:
    """Return an id that the server accepts: the same id if it is valid, otherwise one derived from it.

    A call and its result get the same id. `exact_length` is the number of letters and digits that a server
    requires, or 0 if it requires none.
    """
    fits = (
        re.fullmatch(f"[a-zA-Z0-9]{{{exact_length}}}", neutral_id)
        if exact_length
        else len(neutral_id) <= MAX_CALL_ID_LENGTH
    )
    if fits:
        return neutral_id
    digest = call_id_digest(neutral_id)
    return digest[:exact_length] if exact_length else f"call_{digest[:24]}"


def render_part(part: Text | Image | File | Opaque, *, with_cache_control: bool) -> dict[str, Any]:
    """Render one part of a user message. Raises UnsupportedFeature.

    `with_cache_control` is true if the server accepts prompt cache breakpoints.
    """
    if isinstance(part, Opaque):
        return dict(part.value)
    wire = render_bare_part(part)
    if with_cache_control and part.cache:
        wire["cache_control"] = render_cache_control(part.cache)
    return wire


def render_bare_part(part: Text | Image | File) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            return {"type": "image_url", "image_url": render_image(part)}
        case File():
            return render_file(part)


def render_cache_control(cache: str) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}


def render_image(image: Image) -> dict[str, str]:
    url = image.url or data_url(image.media_type or "image/png", image.data or "")
    return {"url": url, "detail": image.detail} if image.detail else {"url": url}


def render_file(file: File) -> dict[str, Any]:
    """Render audio, video, text or a document. Raises UnsupportedFeature.

    OpenAI accepts only PDF documents, as data or by its own file ids
    (platform.openai.com/docs/guides/pdf-files).
    """
    mime = file.media_type or ""
    if file.data is not None:
        return render_embedded_file(file, mime, file.data)
    if file.url and mime.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": file.url}}
    if file.url and file.origin == FORMAT:
        return {"type": "file", "file": with_filename(file, {"file_data": file.url})}
    if file.file_id and file.origin in (FORMAT, "openai_responses"):
        return {"type": "file", "file": {"file_id": file.file_id}}
    by = "its URL" if file.url else "an id of another provider"
    raise UnsupportedFeature(
        f"The model's API does not accept a file by {by}. Send the content in base64.", "messages"
    )


def render_embedded_file(file: File, media_type: str, data: str) -> dict[str, Any]:
    if media_type.startswith("audio/"):
        return {
            "type": "input_audio",
            "input_audio": {
                "data": data,
                "format": AUDIO_FORMATS.get(media_type, media_type.removeprefix("audio/")),
            },
        }
    if media_type.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": data_url(media_type, data)}}
    if (media_type.startswith("text/") or media_type in TEXT_MEDIA_TYPES) and (
        text := decode_base64_text(data)
    ) is not None:
        return {"type": "text", "text": f"{file.name}\n\n{text}" if file.name else text}
    return {
        "type": "file",
        "file": with_filename(file, {"file_data": data_url(media_type or "application/pdf", data)}),
    }


def with_filename(file: File, wire: dict[str, Any]) -> dict[str, Any]:
    """Add a file name, which OpenAI requires in addition to the data."""
    return {"filename": file.name or "document.pdf", **wire}


def join_text(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))
