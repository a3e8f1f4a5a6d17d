"""Arguments that come piece by piece (`partialArgs`, cloud.google.com/vertex-ai/.../function-calling, "Streaming function calls")."""

import re
from itertools import pairwise
from typing import Any

STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\[['\"]([^'\"]*)['\"]\]")
DEEPEST = 64
VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


def is_partial(item: dict[str, Any], waiting: "PartialCall | None") -> bool:
    """Whether a part begins, continues or ends such a call; its continuation has no name."""
    call = item.get("functionCall")
    if not isinstance(call, dict):
        return False
    return "partialArgs" in call or "willContinue" in call or (waiting is not None and not call.get("name"))


class PartialCall:
    def __init__(self, item: dict[str, Any]) -> None:
        named = {name: item["functionCall"].get(name) for name in ("id", "name")}
        self.call = {name: value for name, value in named.items() if isinstance(value, str)}
        self.signature = item.get("thoughtSignature")
        self.arguments: dict[str, Any] = {}

    def add(self, call: dict[str, Any]) -> bool:
        """True when the call is complete."""
        pieces = call.get("partialArgs")
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict) and isinstance(piece.get("jsonPath"), str):
                self.place(piece)
        whole = call.get("args")
        self.arguments |= whole if isinstance(whole, dict) else {}
        return not call.get("willContinue")

    def place(self, piece: dict[str, Any]) -> None:
        value = next((None if name == "nullValue" else piece[name] for name in VALUES if name in piece), None)
        steps = [int(number) if number else name or quoted for name, number, quoted in STEP.findall(piece["jsonPath"])]
        if 0 < len(steps) <= DEEPEST and isinstance(steps[0], str):
            put(self.arguments, steps, value)

    def whole(self) -> dict[str, Any]:
        whole: dict[str, Any] = {"functionCall": self.call | {"args": self.arguments}}
        return whole | ({"thoughtSignature": self.signature} if isinstance(self.signature, str) else {})


def put(target: Any, steps: list[int | str], value: Any) -> None:
    """Sets what the steps lead to; text that is there already goes on."""
    for step, following in pairwise(steps):
        inner = member(target, step)
        if not isinstance(inner, dict | list):
            inner = [] if isinstance(following, int) else {}
            assign(target, step, inner)
        target = inner
    before = member(target, steps[-1])
    assign(target, steps[-1], before + value if isinstance(before, str) and isinstance(value, str) else value)


def member(target: Any, step: int | str) -> Any:
    match target, step:
        case dict(), str():
            return target.get(step)
        case list(), int() if step < len(target):
            return target[step]
        case _:
            return None


def assign(target: Any, step: int | str, value: Any) -> None:
    match target, step:
        case dict(), str():
            target[step] = value
        case list(), int():
            target.extend([None] * (step + 1 - len(target)))
            target[step] = value
        case _:
            return
