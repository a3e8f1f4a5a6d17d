"""Regular expressions of projects for redaction, in a subset that cannot take long to match.

Python's engine backtracks: some expressions take exponential time, and block the whole process meanwhile. So
each repetition must have an upper limit, and the number of ways to match at one position is limited. A text
is searched in pieces that overlap by the longest possible match.
"""

import re
from collections.abc import Iterator, Sequence
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MAX_PATTERNS = 20
MAX_PATTERN_LENGTH = 200
MAX_WAYS = 1000
"""Maximum number of ways in which an expression may match at one position of a text."""
MAX_MATCH_LENGTH = 256
PIECE_LENGTH = 2000
"""Number of characters that are searched at once. The interpreter's lock is held during a search."""
SINGLE = (opcodes.LITERAL, opcodes.NOT_LITERAL, opcodes.ANY, opcodes.IN, opcodes.AT)
"""Operations that match in one way."""
REPEATS = (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT)


class InvalidPattern(ValueError):
    """An expression that is invalid, or that could take too long. The message says why."""


def check_pattern(pattern: str) -> None:
    """Raise InvalidPattern if an expression cannot be used."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidPattern(f"It has more than {MAX_PATTERN_LENGTH} characters.")
    try:
        parsed = parser.parse(pattern)
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidPattern(f"It is not a valid regular expression: {error}.") from None
    shortest, longest = parsed.getwidth()
    ways = count_ways(parsed)
    if not shortest:
        raise InvalidPattern("It matches an empty text.")
    if longest > MAX_MATCH_LENGTH:
        raise InvalidPattern(f"It can match more than {MAX_MATCH_LENGTH} characters.")
    if ways > MAX_WAYS:
        raise InvalidPattern("It can match in too many ways. Use fewer or shorter repetitions.")


def count_ways(parsed: Any) -> int:
    """Return an upper bound of the ways in which an expression matches at one position.

    Raises InvalidPattern for operations without such a bound.
    """
    ways = 1
    for operation, argument in parsed:
        ways = min(ways * count_operation(operation, argument), MAX_WAYS + 1)
    return ways


def count_operation(operation: Any, argument: Any) -> int:
    if operation in SINGLE:
        return 1
    if operation is opcodes.SUBPATTERN:
        return count_ways(argument[-1])
    if operation is opcodes.BRANCH:
        branches: list[Any] = argument[1]
        return sum(map(count_ways, branches))
    if operation in REPEATS:
        return count_repeat(*argument)
    raise InvalidPattern("References to groups, conditions, and looking ahead or behind are not supported.")


def count_repeat(least: int, most: int, repeated: Any) -> int:
    if most is opcodes.MAXREPEAT:
        raise InvalidPattern("A repetition needs an upper limit: write {0,50} for *, and {1,50} for +.")
    ways = count_ways(repeated)
    if most > MAX_MATCH_LENGTH:
        raise InvalidPattern(f"It can match more than {MAX_MATCH_LENGTH} characters.")
    total = 0
    for count in range(least, most + 1):
        total = min(total + min(ways**count, MAX_WAYS + 1), MAX_WAYS + 1)
    return total


def find_matches(patterns: Sequence[re.Pattern[str]], text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each match in each piece of a text."""
    for start in range(0, len(text), PIECE_LENGTH):
        end = start + PIECE_LENGTH + MAX_MATCH_LENGTH
        for pattern in patterns:
            for found in pattern.finditer(text, start, end):
                yield found.span()
