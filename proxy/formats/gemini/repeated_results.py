"""Removal of function results that a client sends more than once.

Gemini rejects a turn if its number of results differs from the number of calls in the turn before it. If
Gemini CLI 0.61 resumes a session, it sends each result twice, because its log of the session contains the
result beside the call and again as a message.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from proxy.formats.json_body import as_dict, as_str

Parts = list[dict[str, Any]]


def without_repeated_results(turns: Iterable[Parts]) -> Iterator[Parts]:
    """Yield the parts of each turn, with only as many results for an id as there are calls with it.

    A result stays if it has no id, or an id that no call has, because the gateway cannot tell which call it
    belongs to.
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
    """Return whether a part is a result, and all calls with its id already have one. Count it as a result."""
    result_id = id_of(part, "functionResponse", "function_response")
    if result_id not in unanswered:
        return False
    unanswered[result_id] -= 1
    return unanswered[result_id] < 0


def id_of(part: dict[str, Any], name: str, snake_name: str) -> str:
    return as_str(as_dict(part.get(name) or part.get(snake_name)).get("id"))
