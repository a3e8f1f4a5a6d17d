"""Signatures of thinking and tool calls, carried through other formats and back to their origin.

A signature of another origin than the client's format is written as `origin#signature`, so that the gateway
can restore it when the client sends it with the history.
"""

from collections.abc import Iterable
from typing import get_args

from msgspec.structs import replace

from proxy.formats.neutral import Origin, Part, Thinking, ToolCall

ORIGINS: dict[str, Origin] = {origin: origin for origin in get_args(Origin)}
REDACTED_PREFIX = "redacted#"
"""Marks redacted thinking in a field that otherwise holds a signature."""


def add_origin(origin: Origin | None, signature: str, own: Origin) -> str:
    """Return the signature as the format `own` carries it: with its origin, if that is another format."""
    return signature if origin in (None, own) else f"{origin}#{signature}"


def split_origin(text: str, default: Origin) -> tuple[Origin, str]:
    """Return the origin of a signature and the signature itself; `default` if the text names no origin."""
    name, separator, signature = text.partition("#")
    return (ORIGINS[name], signature) if separator and name in ORIGINS else (default, text)


def attach_call_signatures(parts: Iterable[Part]) -> list[Part]:
    """Move signatures of calls from the empty thinking before a call to the call itself.

    Gemini signs calls. A format without a field for that carries the signature in empty thinking before the
    call.
    """
    attached: list[Part] = []
    for part in parts:
        match attached[-1] if attached else None, part:
            case Thinking(text="", signature=str(signature), origin="gemini"), ToolCall() if signature:
                attached[-1] = replace(part, signature=signature, origin="gemini")
            case _:
                attached.append(part)
    return attached
