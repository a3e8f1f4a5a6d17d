"""Token counts: those that servers state, and our own of an output where they state none."""

from typing import Any

TOKEN_BYTES = 4
LONE_TOKEN_BYTES = 16
LONGEST_COUNT = 12


def tokens_in_size(size: int) -> int:
    """Providers send one token a chunk; in more text than a token has, about four bytes are one."""
    if size <= LONE_TOKEN_BYTES:
        return 1 if size else 0
    return -(-size // TOKEN_BYTES)


def tokens_in_text(text: str) -> int:
    return tokens_in_size(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))


def count_of(value: Any) -> int | None:
    """A count as servers are found to state it: a whole number, be it written as a float or as a string. None for anything else."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if value.isdecimal() and len(value) <= LONGEST_COUNT:
            return int(value)
        case _:
            return None


def counts_of(wire: Any, *names: str) -> list[int] | None:
    """Counts of these names, zero where one is not stated; None where one is stated and is no count."""
    given = [getattr(wire, name) for name in names]
    counts = [0 if value is None else count_of(value) for value in given]
    return None if None in counts else [count for count in counts if count is not None]


def input_and_output(given: Any, made: Any, total: Any) -> tuple[int, int] | None:
    """Return the counts of input and output; None if one is mistyped, or neither stated nor implied by the total."""
    input, output, all_tokens = count_of(given), count_of(made), count_of(total)
    if made is None and input is not None and all_tokens is not None:
        output = all_tokens - input
    return None if input is None or output is None else (input, output)


def detail_in(details: Any, name: str) -> int:
    """A count among the details of another one; what is no count there is none."""
    return (count_of(details.get(name)) or 0) if isinstance(details, dict) else 0
