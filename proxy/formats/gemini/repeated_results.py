"""Results that a client sends more often than it was asked for them.

Gemini refuses a turn whose results are not as many as the calls. Gemini CLI 0.61 sends each result of a
resumed session twice: its record has it beside the call, and as a message.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from proxy.formats.json_body import as_dict, as_str

Parts = list[dict[str, Any]]


def without_repeated_results(turns: Iterable[Parts]) -> Iterator[Parts]:
    """Yield the parts of each turn without results beyond the calls of their id.

    A result without an id, or with one that no call has, stays: only Gemini can tell what it answers.
    """
    unanswered: Counter[str] = Counter()
    has_results = False
    for parts in turns:
        call_ids = [call_id for part in parts if (call_id := id_of(part, "functionCall", "function_call"))]
        if call_ids and has_results:
            unanswered.clear()
        has_results = not call_ids
        unanswered.update(call_ids)
        yield [part for part in parts if not is_repeated(part, unanswered)]


def is_repeated(part: dict[str, Any], unanswered: Counter[str]) -> bool:
    """Return whether a part is a result whose calls are all answered; else count it as an answer."""
    result_id = id_of(part, "functionResponse", "function_response")
    if result_id not in unanswered:
        return False
    unanswered[result_id] -= 1
    return unanswered[result_id] < 0


def id_of(part: dict[str, Any], name: str, snake_name: str) -> str:
    return as_str(as_dict(part.get(name) or part.get(snake_name)).get("id"))
