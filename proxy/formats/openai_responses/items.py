"""Items, of which this format's input and output alike are made, and the content parts inside them."""

import binascii
import mimetypes
import re
from collections.abc import Iterable
from typing import Any, get_args
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from proxy.formats.body import encode
from proxy.formats.neutral import Citation, File, Image, Inexpressible, Opaque, Origin, Part, Refusal, Text, Thinking, ToolCall

NAME: Origin = "openai_responses"
ORIGINS: tuple[Origin, ...] = get_args(Origin)
REDACTED = "redacted#"
PARAGRAPH = "\n\n"
DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,")
FILE_MIME = "application/pdf"
"""What a file is taken for whose type nothing tells: the only one that every model reads."""


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex}"


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# Thinking -----------------------------------------------------------------------------------------------------------------


def parse_reasoning(item: dict[str, Any]) -> Thinking:
    """The summary is what clients see; servers of open models state the raw thoughts instead."""
    texts = reasoning_texts(item, "summary") or reasoning_texts(item, "content")
    return Thinking(text=PARAGRAPH.join(texts), signature=text_of(item.get("encrypted_content")) or None, origin=NAME)


def reasoning_texts(item: dict[str, Any], field: str) -> list[str]:
    return [text for part in objects(item.get(field)) if (text := text_of(part.get("text")))]


def seal(origin: Origin | None, signature: str | None, redacted: str | None = None) -> str | None:
    """What a client gets as `encrypted_content`: our own as it is, that of another format with its origin before it, so that it
    finds its way back when the client sends it with the history."""
    secret = signature if redacted is None else REDACTED + redacted
    if secret is None or (origin in (None, NAME) and secret.partition("#")[0] not in ORIGINS):
        return secret
    return f"{origin or NAME}#{secret}"


def unseal(thinking: Thinking) -> Thinking:
    prefix, mark, secret = (thinking.signature or "").partition("#")
    origin = next((origin for origin in ORIGINS if mark and origin == prefix), None)
    if origin is None:
        return thinking
    if secret.startswith(REDACTED):
        return Thinking(redacted=secret.removeprefix(REDACTED), origin=origin)
    return Thinking(text=thinking.text, signature=secret, origin=origin)


def reasoning_item(text: str, sealed: str | None) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, Any] = {"type": "reasoning", "summary": summary}
    return item | {"encrypted_content": sealed} if sealed else item


# Tool calls ---------------------------------------------------------------------------------------------------------------


def parse_call(item: dict[str, Any], call_id: str = "") -> ToolCall:
    custom = item.get("type") == "custom_tool_call"
    arguments = item.get("input" if custom else "arguments")
    text = arguments if isinstance(arguments, str) else "" if arguments is None else encode(arguments).decode()
    known_id = call_id or text_of(item.get("call_id")) or text_of(item.get("id")) or f"call_{uuid4().hex[:24]}"
    return ToolCall(id=known_id, name=text_of(item.get("name")), arguments=text, custom=custom)


def call_item(call: ToolCall, custom: bool) -> dict[str, Any]:
    if custom:
        text = call.arguments if call.custom else free_text(call.arguments)
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": text}
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments or "{}"}


def free_text(arguments: str) -> str:
    """A custom tool reached the model as a function with the one parameter `input`: that string, out of its JSON."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    match value:
        case {"input": str() as text}:
            return text
        case _:
            return arguments


# Content ------------------------------------------------------------------------------------------------------------------


def parse_content(content: Any) -> tuple[Part, ...]:
    match content:
        case str():
            return (Text(text=content),)
        case list() | None:
            return tuple(parse_part(part) for part in objects(content))
        case _:
            return (Text(text=encode(content).decode()),)


def parse_part(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str() as text}:
            return Text(text=text, cache=breakpoint_of(part), citations=tuple(parse_citations(part.get("annotations"))))
        case {"type": "output_text", "text": None}:
            return Text()
        case {"type": "refusal", "refusal": str() as text}:
            return Refusal(text=text)
        case {"type": "input_image"}:
            return replace(parse_image(part), cache=breakpoint_of(part))
        case {"type": "input_file"}:
            return replace(parse_file(part), cache=breakpoint_of(part))
        case {"type": "input_audio", "input_audio": {"data": str() as data, "format": str() as kind}}:
            return File(mime=f"audio/{kind}", data=data)
        case _:
            return Opaque(origin=NAME, what=text_of(part.get("type")) or "content", value=part)


def parse_citations(annotations: Any) -> list[Citation]:
    return [citation for annotation in objects(annotations) if (citation := parse_citation(annotation))]


def parse_citation(annotation: dict[str, Any]) -> Citation | None:
    """Files are known to OpenAI alone; so what they are cited for stays behind."""
    url, title = text_of(annotation.get("url")), text_of(annotation.get("title"))
    start, end = (place if isinstance(place := annotation.get(name), int) else None for name in ("start_index", "end_index"))
    return Citation(url=url, title=title, start=start, end=end) if url else None


def is_base64(data: str) -> bool:
    """Whether it can be a picture's data: clients of other formats read it as bytes, and fail on what is none."""
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def breakpoint_of(part: dict[str, Any]) -> str | None:
    """The mark for the prompt cache (`prompt_cache_breakpoint`), which may say how long at least the cache is to last."""
    match part.get("prompt_cache_breakpoint"):
        case {"ttl": str()}:
            return "1h"
        case dict():
            return "5m"
        case _:
            return None


def parse_image(part: dict[str, Any]) -> Image | File:
    url, detail = text_of(part.get("image_url")), text_of(part.get("detail")) or None
    if not url and (file_id := text_of(part.get("file_id"))):
        return File(mime="image/*", file_id=file_id, origin=NAME)
    if found := DATA_URL.match(url):
        return Image(mime=found[1] or None, data=url[found.end() :], detail=detail)
    return Image(url=url, detail=detail)


def parse_file(part: dict[str, Any]) -> File:
    name, data = text_of(part.get("filename")) or None, text_of(part.get("file_data"))
    if found := DATA_URL.match(data):
        return File(mime=found[1] or None, data=data[found.end() :], name=name)
    if data:
        return File(mime=mimetypes.guess_type(name or "")[0] or FILE_MIME, data=data, name=name)
    if url := text_of(part.get("file_url")):
        return File(url=url, name=name, mime=mimetypes.guess_type(url)[0])
    return File(file_id=text_of(part.get("file_id")), name=name, origin=NAME)


def input_part(part: Part) -> dict[str, Any]:
    """Raises Inexpressible for what cannot stand in a message to the model."""
    match part:
        case Text() | Refusal():
            return {"type": "input_text", "text": part.text}
        case Image():
            url = part.url or f"data:{part.mime or 'image/png'};base64,{part.data or ''}"
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case File():
            return input_file(part)
        case Opaque(origin="openai_responses", value=dict() as value):
            return value
        case Opaque():
            raise Inexpressible(f"The Responses API has no counterpart to {part.what}.", "messages")
        case _:
            raise Inexpressible("A message to the model cannot hold what only its answers do.", "messages")


def input_file(part: File) -> dict[str, Any]:
    """A `file_id` is good in all of OpenAI's formats. Sound and film are not taken here (docs/guides/pdf-files, docs/guides/audio)."""
    mime = part.mime or mimetypes.guess_type(part.name or "")[0] or FILE_MIME
    if mime.startswith(("audio/", "video/")):
        raise Inexpressible(f"The Responses API takes no files of the type {mime}.", "messages")
    if part.file_id:
        if part.origin not in (NAME, "openai_chat"):
            raise Inexpressible("A file kept at one provider is not known to another: send its content.", "messages")
        return {"type": "input_image" if mime.startswith("image/") else "input_file", "file_id": part.file_id}
    if mime.startswith("image/"):
        return input_part(Image(mime=mime, data=part.data, url=part.url))
    if part.url and part.data is None:
        return {"type": "input_file", "file_url": part.url}
    name = part.name or "file" + (mimetypes.guess_extension(mime) or "")
    return {"type": "input_file", "filename": name, "file_data": f"data:{mime};base64,{part.data or ''}"}


def output_text(text: str, citations: Iterable[Citation] = (), logprobs: Iterable[Any] = ()) -> dict[str, Any]:
    annotations = [annotation_of(citation, len(text)) for citation in citations]
    return {"type": "output_text", "annotations": annotations, "logprobs": [full_logprob(entry) for entry in logprobs], "text": text}


def annotation_of(citation: Citation, length: int) -> dict[str, Any]:
    """A source of a text of this length."""
    start, end = citation.span(length)
    title = citation.title or citation.url
    return {"type": "url_citation", "url": citation.url, "title": title, "start_index": start, "end_index": end}


def full_logprob(entry: Any) -> Any:
    """With the lists that this format demands and OpenAI chat may leave null."""
    if not isinstance(entry, dict):
        return {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []}
    others = [{**other, "bytes": other.get("bytes") or []} for other in objects(entry.get("top_logprobs"))]
    return {**entry, "bytes": entry.get("bytes") or [], "top_logprobs": others}
