"""Function calls whose arguments arrive in pieces (`partialArgs`).

See cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling, "Streaming function calls".
"""

import re
from itertools import pairwise
from typing import Any

PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\[['\"]([^'\"]*)['\"]\]")
MAX_DEPTH = 64
VALUE_FIELDS = ("stringValue", "numberValue", "boolValue", "nullValue")


def is_partial_call(item: dict[str, Any], open_call: "PartialFunctionCall | None") -> bool:
    """Return whether a part belongs to a call whose arguments arrive in pieces.

    Only the first part of such a call has a name.
    """
    call = item.get("functionCall")
    if not isinstance(call, dict):
        return False
    return "partialArgs" in call or "willContinue" in call or (open_call is not None and not call.get("name"))


class PartialFunctionCall:
    """A call that is not complete yet, with the arguments that have arrived."""

    def __init__(self, item: dict[str, Any]) -> None:
        fields = {name: item["functionCall"].get(name) for name in ("id", "name")}
        self.call = {name: value for name, value in fields.items() if isinstance(value, str)}
        self.signature = item.get("thoughtSignature")
        self.arguments: dict[str, Any] = {}

    def add_pieces(self, call: dict[str, Any]) -> bool:
        """Add pieces of arguments, and return whether the call is complete."""
        pieces = call.get("partialArgs")
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict) and isinstance(piece.get("jsonPath"), str):
                self.apply_piece(piece)
        complete_args = call.get("args")
        self.arguments |= complete_args if isinstance(complete_args, dict) else {}
        return not call.get("willContinue")

    def apply_piece(self, piece: dict[str, Any]) -> None:
        value = next(
            (None if name == "nullValue" else piece[name] for name in VALUE_FIELDS if name in piece), None
        )
        steps = [
            int(number) if number else name or quoted
            for name, number, quoted in PATH_STEP.findall(piece["jsonPath"])
        ]
        if 0 < len(steps) <= MAX_DEPTH and isinstance(steps[0], str):
            set_path(self.arguments, steps, value)

    def complete_call(self) -> dict[str, Any]:
        item: dict[str, Any] = {"functionCall": self.call | {"args": self.arguments}}
        return item | ({"thoughtSignature": self.signature} if isinstance(self.signature, str) else {})


def set_path(target: Any, path: list[int | str], value: Any) -> None:
    """Set the value at a path. If the old and the new value are texts, append the new one to the old one."""
    for step, following in pairwise(path):
        inner = get_member(target, step)
        if not isinstance(inner, dict | list):
            inner = [] if isinstance(following, int) else {}
            set_member(target, step, inner)
        target = inner
    current = get_member(target, path[-1])
    set_member(
        target, path[-1], current + value if isinstance(current, str) and isinstance(value, str) else value
    )


def get_member(target: Any, key: int | str) -> Any:
    match target, key:
        case dict(), str():
            return target.get(key)
        case list(), int() if key < len(target):
            return target[key]
        case _:
            return None


def set_member(target: Any, key: int | str, value: Any) -> None:
    match target, key:
        case dict(), str():
            target[key] = value
        case list(), int():
            target.extend([None] * (key + 1 - len(target)))
            target[key] = value
        case _:
            return
