"""Replacement of opaque parts in a history, for example of calls of another vendor's server tools.

Opaque parts become text, so that a conversation can continue with a model of another vendor. A part without a
text is left out and reported.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from proxy.formats.json_body import encode
from proxy.formats.neutral import Opaque, Origin, Part, Request, Text, ToolResult, UnsupportedFeature

PARAGRAPH_BREAK = "\n\n"


def replace_opaque_parts(request: Request, target: Origin) -> tuple[Request, list[str]]:
    """Return the request without content that the target's format cannot express, and what was dropped.

    Raises UnsupportedFeature for data of the caller, and if nothing remains that the model could respond to.
    This is so if the last message is lost, and the message before it is a response of the model.
    """
    dropped: list[str] = []
    messages = [
        replace(message, parts=tuple(without_opaque_parts(message.parts, target, dropped)))
        for message in request.messages
    ]
    kept = tuple(
        message
        for message, given in zip(messages, request.messages, strict=True)
        if message.parts or not given.parts
    )
    is_last_lost = len(messages) > 0 and messages[-1] not in kept[-1:]
    if is_last_lost and (not kept or kept[-1].role == "assistant"):
        raise UnsupportedFeature(
            f"The last message contains only parts that this model cannot read: {', '.join(dropped)}.",
            "messages",
        )
    return replace(request, messages=kept), [*dict.fromkeys(dropped)]


def without_opaque_parts(parts: Sequence[Any], target: Origin, dropped: list[str]) -> list[Any]:
    """Return the parts with text in place of opaque parts of other formats.

    Names of parts without text are added to `dropped`.
    """
    kept: list[Any] = []
    for part in parts:
        match part:
            case Opaque(origin=origin) if origin != target:
                kept += opaque_part_as_text(part, kept, dropped)
            case ToolResult():
                content = tuple(without_opaque_parts(part.content, target, dropped))
                kept.append(replace(part, content=content))
            case _:
                kept.append(part)
    if kept and isinstance(parts[-1], Opaque) and isinstance(last := kept[-1], Text):
        kept[-1] = replace(last, text=last.text.rstrip())
    return kept


def opaque_part_as_text(part: Opaque, before: list[Part], dropped: list[str]) -> list[Text]:
    """Return the text of an opaque part as a separate paragraph; empty if the part has no text.

    Raises UnsupportedFeature for data of the caller.
    """
    if part.is_caller_data:
        raise UnsupportedFeature(
            f"{part.kind} refers to content that only its own provider has. Send the content itself, or use "
            "a model of that provider.",
            "messages",
        )
    if not part.text:
        dropped.append(f"messages.{part.kind}")
        return []
    follows_text = before and isinstance(last := before[-1], Text) and not last.text.endswith("\n")
    return [Text(text=f"{PARAGRAPH_BREAK if follows_text else ''}{part.text}{PARAGRAPH_BREAK}")]


# Texts --------------------------------------------------------------------------------------------


def search_text(queries: Iterable[Any]) -> str:
    """Return the text that replaces searches of the web."""
    named = [f'"{query}"' for query in queries if isinstance(query, str) and query]
    return f"I searched the web for {', '.join(named)}." if named else "I searched the web."


def results_text(pages: Iterable[tuple[Any, Any]]) -> str:
    """Return the text that replaces search results. Each has its title and URL."""
    lines = [f"- {title}: {url}" if title else f"- {url}" for title, url in pages if url]
    return "\n".join(["Search results:", *lines]) if lines else ""


def code_text(code: Any, language: Any = "") -> str:
    """Return the text that replaces code that a provider ran. It is empty if there is no code."""
    written = code if isinstance(code, str) else ""
    return f"```{str(language or '').lower()}\n{written}\n```" if written.strip() else ""


def output_text(*outputs: Any) -> str:
    """Return the text that replaces the output of code. It is empty if there is no output."""
    texts = [text.strip("\n") for text in outputs if isinstance(text, str)]
    printed = "\n".join(text for text in texts if text.strip())
    return f"Output:\n```\n{printed}\n```" if printed else ""


def call_text(name: Any, arguments: Any) -> str:
    """Return the text that replaces a call of a tool that another provider ran."""
    given = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return f"I called {name} with {given}." if name else ""
