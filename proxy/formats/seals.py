"""Seals: thinking of one vendor, stored in a field that clients of another vendor's format send back.

A client returns the signature or the encrypted form of thinking without reading it. If a vendor other than
the client's own produced the thinking, the gateway puts a seal into this field. The seal contains the
complete thinking and its origin. When the client sends the seal back, the gateway restores the thinking for
requests to its origin. From requests to other vendors, it removes the thinking, because vendors reject
signatures that they have not issued.
"""

import base64
import re
from collections.abc import Iterable
from typing import get_args

import msgspec
from msgspec.structs import asdict, replace

from proxy.formats.json_body import DECODE_ERRORS, encode
from proxy.formats.media import decode_base64
from proxy.formats.neutral import Origin, Part, Thinking, ToolCall

PREFIX = "GatewaySeal1"
"""The start of every seal. No vendor's signature begins with it.

The whole seal is base64, because Google's SDKs decode the field and encode it again. The length of this
prefix is a multiple of four, so its letters stay the same in every base64 alphabet.
"""
ORIGINS: dict[str, Origin] = {origin: origin for origin in get_args(Origin)}
TAG = re.compile("(?:(?:{0})#)*({0})#(redacted#)?(.*)".format("|".join(ORIGINS)), re.DOTALL)
"""The form of seals of earlier versions of the gateway, which conversations may still contain.

Clients of Gemini's format have these seals in base64. If a seal names several origins, the last one is the
true origin.
"""
BASE64_TAGS = tuple(
    base64.b64encode(f"{origin}#".encode()).decode()[: (len(origin) + 1) * 4 // 3] for origin in ORIGINS
)
decode_thinking = msgspec.json.Decoder(tuple[Thinking, ...]).decode


def seal(*thinking: Thinking) -> str:
    """Render thinking as one text for a field of another vendor's format."""
    given = [{name: value for name, value in asdict(part).items() if value} for part in thinking]
    return PREFIX + base64.b64encode(encode(given)).decode()


def unseal(text: str, *, redacted: bool = False) -> tuple[Thinking, ...] | None:
    """Return the thinking in a seal; None if the text is not a seal.

    A seal may contain another seal, which is opened too. A seal that a client has truncated yields no
    thinking. `redacted` says whether the field is one for redacted thinking, because seals of earlier
    versions do not state this.
    """
    found = open_seal(text, redacted=redacted)
    return None if found is None else tuple(inner for part in found for inner in unseal_part(part))


def unseal_part(part: Thinking) -> tuple[Thinking, ...]:
    inner = unseal(part.redacted or part.signature or "", redacted=bool(part.redacted))
    return (part,) if inner is None else tuple(replace(item, text=item.text or part.text) for item in inner)


def open_seal(text: str, *, redacted: bool) -> tuple[Thinking, ...] | None:
    """Return the thinking in the outermost seal. Its signatures may be seals too."""
    if text.startswith(PREFIX):
        try:
            return decode_thinking(decode_base64(text.removeprefix(PREFIX)))
        except DECODE_ERRORS:
            return ()
    tag = TAG.match(text) or (TAG.match(decode_tag(text)) if text.startswith(BASE64_TAGS) else None)
    return tag and (tagged_thinking(ORIGINS[tag[1]], tag[3], redacted=redacted or bool(tag[2])),)


def decode_tag(text: str) -> str:
    try:
        return decode_base64(text).decode()
    except ValueError:
        return ""


def tagged_thinking(origin: Origin, value: str, *, redacted: bool) -> Thinking:
    if redacted:
        return Thinking(redacted=value, origin=origin)
    return Thinking(signature=value or None, origin=origin)


# Fields of a format -------------------------------------------------------------------------------


def render_signature(part: Thinking, own: Origin) -> str:
    """Return the signature of thinking for a client of the format `own`.

    It is a seal, unless the thinking comes from a provider of this format.
    """
    return part.signature or "" if part.origin == own else seal(part)


def parse_thinking(text: str, signature: str | None, own: Origin) -> tuple[Thinking, ...]:
    """Return thinking that a client or a provider of the format `own` sends.

    The origin of thinking without a signature is unknown, because vendors that sign thinking sign all of it.
    """
    if not signature:
        return (Thinking(text=text),) if text else ()
    sealed = unseal(signature)
    if sealed is None:
        return (Thinking(text=text, signature=signature, origin=own),)
    if len(sealed) == 1:
        return (replace(sealed[0], text=sealed[0].text or text),)
    return sealed or parse_thinking(text, None, own)


def own_thinking(sealed: Iterable[Thinking], own: Origin) -> Thinking | None:
    """Return the thinking in a seal that comes from the origin `own` and is signed or redacted, or None."""
    return next((part for part in sealed if part.origin == own and (part.signature or part.redacted)), None)


def attach_call_signatures(parts: Iterable[Part]) -> list[Part]:
    """Move the signature of a call from the empty thinking before the call to the call itself.

    Gemini signs calls. In formats without a field for the signature of a call, the gateway puts it into empty
    thinking before the call.
    """
    attached: list[Part] = []
    for part in parts:
        match attached[-1] if attached else None, part:
            case Thinking(text="", signature=str(signature), origin="gemini"), ToolCall() if signature:
                attached[-1] = replace(part, signature=signature, origin="gemini")
            case _:
                attached.append(part)
    return attached
