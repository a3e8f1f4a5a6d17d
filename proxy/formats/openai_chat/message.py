"""Content and tool calls of a message, which requests and answers have in common."""

import base64
import hashlib
import mimetypes
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from proxy.formats.body import encode
from proxy.formats.neutral import File, Image, Inexpressible, Opaque, Part, Refusal, Text, Thinking, ToolCall
from proxy.formats.openai_chat.signatures import OWN, google_content, google_signature

DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,(.*)", re.DOTALL)
AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}
AUDIO_MIMES = {"mp3": "audio/mpeg", "wav": "audio/wav"}
LINKED_FILES = ("video_url", "document_url", "file_url")
"""Parts of compatible servers: vLLM's and Alibaba's films, Mistral's documents, Perplexity's files."""
READABLE_MIMES = ("application/json", "application/xml", "application/x-yaml")
MAX_CALL_ID = 40
"""OpenAI refuses longer ids of tool calls ("Expected a string with maximum length 40")."""


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# Reading ------------------------------------------------------------------------------------------------------------------


def content_of(content: Any, cache: str | None = None) -> list[Part]:
    """Content as text, as parts, or as nothing. `cache` is a mark on the whole message: it holds for its last part."""
    if isinstance(content, str):
        return [Text(text=content, cache=cache)] if content else []
    parts = [part_of(item) for item in items_of(content) if isinstance(item, str | dict)]
    if cache and parts and isinstance(last := parts[-1], Text | Image | File):
        parts[-1] = msgspec.structs.replace(last, cache=last.cache or cache)
    return parts


def part_of(item: str | dict[str, Any]) -> Part:
    """One part. What no other format could know is kept as it is."""
    if isinstance(item, str):
        return Text(text=item)
    cache = cache_of(item.get("cache_control")) or breakpoint_of(item)
    match item.get("type"):
        case "text" | "input_text" | "output_text":
            return Text(text=text_of(item.get("text")), cache=cache)
        case "image_url":
            return image_of(item["image_url"], cache) if "image_url" in item else Text()
        case "refusal":
            return Refusal(text=text_of(item.get("refusal")))
        case "thinking":
            return Thinking(text=thinking_text(item.get("thinking")), origin=OWN)
        case "input_audio" if isinstance(audio := item.get("input_audio"), dict):
            name = text_of(audio.get("format"))
            return File(mime=AUDIO_MIMES.get(name, f"audio/{name or 'wav'}"), data=text_of(audio.get("data")), cache=cache, origin=OWN)
        case "file" if isinstance(file := item.get("file"), dict):
            return file_of(file, cache)
        case str(kind) if kind in LINKED_FILES:
            return linked_file(item.get(kind), kind, cache)
        case None if isinstance(item.get("text"), str):
            return Text(text=item["text"], cache=cache)
        case kind:
            return Opaque(origin=OWN, what=f"a part of the type {kind}", value=item)


def cache_of(mark: Any) -> str | None:
    """Anthropic's mark, which routers to its models take on parts, messages and tools (openrouter.ai/docs/features/prompt-caching)."""
    match mark:
        case {"type": "ephemeral", **rest}:
            return "1h" if rest.get("ttl") == "1h" else "5m"
        case _:
            return None


def breakpoint_of(part: dict[str, Any]) -> str | None:
    """OpenAI's own mark for its prompt cache (`prompt_cache_breakpoint`), which may say how long at least the cache is to last."""
    mark = object_of(part.get("prompt_cache_breakpoint"))
    return ("1h" if mark.get("ttl") else "5m") if mark else None


def thinking_text(value: Any) -> str:
    """Mistral's thoughts are a list of texts (docs.mistral.ai/capabilities/reasoning)."""
    return value if isinstance(value, str) else "".join(text_of(object_of(item).get("text")) for item in items_of(value))


def image_of(value: Any, cache: str | None = None) -> Image:
    url = text_of(value.get("url")) if isinstance(value, dict) else text_of(value)
    detail = text_of(object_of(value).get("detail")) or None
    if embedded := DATA_URL.match(url):
        return Image(mime=embedded[1] or None, data=embedded[2], detail=detail, cache=cache)
    return Image(url=url, detail=detail, cache=cache)


def images_of(message: dict[str, Any]) -> list[Image]:
    """Pictures that a model made, in OpenRouter's field (openrouter.ai/docs/features/multimodal/image-generation)."""
    images = (object_of(image) for image in items_of(message.get("images")))
    return [image_of(image["image_url"]) for image in images if "image_url" in image]


def file_of(file: dict[str, Any], cache: str | None) -> File:
    data, name, file_id = text_of(file.get("file_data")), text_of(file.get("filename")) or None, text_of(file.get("file_id")) or None
    if embedded := DATA_URL.match(data):
        return File(mime=embedded[1] or None, data=embedded[2], name=name, cache=cache, origin=OWN)
    if data.startswith(("http://", "https://")):
        return File(mime=mimetypes.guess_type(data)[0], url=data, name=name, cache=cache, origin=OWN)
    mime = text_of(file.get("format")) or mimetypes.guess_type(name or "")[0]
    return File(mime=mime if data else None, data=data or None, file_id=file_id, name=name, cache=cache, origin=OWN)


def linked_file(value: Any, kind: str, cache: str | None) -> File:
    url = text_of(value.get("url")) if isinstance(value, dict) else text_of(value)
    if embedded := DATA_URL.match(url):
        return File(mime=embedded[1] or None, data=embedded[2], cache=cache, origin=OWN)
    if "://" not in url:
        return File(data=url, cache=cache, origin=OWN)
    guess = mimetypes.guess_type(url)[0]
    return File(mime=guess or ("video/mp4" if kind == "video_url" else "application/pdf"), url=url, cache=cache, origin=OWN)


def call_of(wire: dict[str, Any], call_id: str) -> ToolCall:
    """One entry of `tool_calls`; a server may leave out its type, and give arguments as an object (Ollama)."""
    function, free = object_of(wire.get("function")), object_of(wire.get("custom"))
    custom = bool(free) and not function.get("name")
    body = free if custom else function
    arguments = arguments_of(body.get("input") if custom else body.get("arguments"))
    origin, signature = google_signature(wire) or (OWN, None)
    return ToolCall(
        id=call_id,
        name=text_of(body.get("name")),
        arguments=arguments,
        custom=custom,
        signature=signature,
        origin=origin,
        cache=cache_of(wire.get("cache_control")),
    )


def arguments_of(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else encode(value).decode()


# Writing ------------------------------------------------------------------------------------------------------------------


def wire_call(call: ToolCall) -> dict[str, Any]:
    """One entry of `tool_calls`, but for the id. No arguments are an empty object: clients parse them as JSON."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    wire: dict[str, Any] = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
    if call.signature:
        wire["extra_content"] = google_content(call.origin, call.signature)
    return wire


def call_id(given: str, exact: int = 0) -> str:
    """The same id, or one made from it, for call and result alike. `exact`: so many letters and digits, where a server insists."""
    fits = re.fullmatch(f"[a-zA-Z0-9]{{{exact}}}", given) if exact else len(given) <= MAX_CALL_ID
    if fits:
        return given
    made = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return made[:exact] if exact else f"call_{made[:24]}"


def wire_part(part: Text | Image | File | Opaque, *, cached: bool) -> dict[str, Any]:
    """One part of a user's content. `cached`: whether this target reads marks for its prompt cache. Raises Inexpressible."""
    if isinstance(part, Opaque):
        if part.origin != OWN:
            raise Inexpressible(f"The model's API has no words for {part.what} in a message.", "messages")
        return dict(part.value)
    wire = bare_part(part)
    if cached and part.cache:
        wire["cache_control"] = cache_control(part.cache)
    return wire


def bare_part(part: Text | Image | File) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            return {"type": "image_url", "image_url": wire_image(part)}
        case File():
            return wire_file(part)


def cache_control(cache: str) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}


def wire_image(image: Image) -> dict[str, str]:
    url = image.url or f"data:{image.mime or 'image/png'};base64,{image.data or ''}"
    return {"url": url, "detail": image.detail} if image.detail else {"url": url}


def wire_file(file: File) -> dict[str, Any]:
    """Sound, film, text or document. OpenAI takes documents by value or by its own ids, and PDF only
    (platform.openai.com/docs/guides/pdf-files)."""
    mime = file.mime or ""
    if file.data is not None:
        return embedded_file(file, mime, file.data)
    if file.url and mime.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": file.url}}
    if file.url and file.origin == OWN:
        return {"type": "file", "file": named(file, {"file_data": file.url})}
    if file.file_id and file.origin in (OWN, "openai_responses"):
        return {"type": "file", "file": {"file_id": file.file_id}}
    by = "its URL" if file.url else "an id of another provider"
    raise Inexpressible(f"The model's API takes no file by {by}; send it by value, in base64.", "messages")


def embedded_file(file: File, mime: str, data: str) -> dict[str, Any]:
    if mime.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": AUDIO_FORMATS.get(mime, mime.removeprefix("audio/"))}}
    if mime.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": f"data:{mime};base64,{data}"}}
    if (mime.startswith("text/") or mime in READABLE_MIMES) and (text := readable(data)) is not None:
        return {"type": "text", "text": f"{file.name}\n\n{text}" if file.name else text}
    return {"type": "file", "file": named(file, {"file_data": f"data:{mime or 'application/pdf'};base64,{data}"})}


def named(file: File, wire: dict[str, Any]) -> dict[str, Any]:
    """OpenAI wants a name with the data."""
    return {"filename": file.name or "document.pdf", **wire}


def readable(data: str) -> str | None:
    """A text that came as a file: the format has no text documents, but text it has."""
    try:
        return base64.b64decode(data).decode()
    except ValueError:
        return None


def joined(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))
