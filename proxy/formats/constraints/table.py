"""The table of what vendors reject, as data. `docs/vendor-constraints.md` shows it as a page.

Rows for certain vendors or models come before rows for all of them, because most rules use the first row that
applies.
"""

from functools import lru_cache

from proxy.formats.constraints.constraint import Constraint, Constraints, Destination
from proxy.formats.constraints.rows import formats, messages, output_limits, ranges, settings, tools

SECTIONS: dict[str, tuple[Constraint, ...]] = {
    "Identifiers": settings.IDENTIFIERS,
    "Settings": (*settings.SAMPLING, *formats.EFFORTS),
    "Values of settings": (*ranges.RANGES, *ranges.STOP_SEQUENCES),
    "Output limits": (*output_limits.OUTPUT_LIMITS, *output_limits.OTHER_LIMITS),
    "Formats of the response": formats.RESPONSE_FORMATS,
    "Tools": (*tools.NAMES, *tools.CHOICE),
    "Schemas of tools": tools.SCHEMAS,
    "Messages": (*messages.MESSAGE_FIELDS, *messages.EARLIER_THINKING, *messages.ROLES, *messages.CONTENT),
}
CONSTRAINTS = tuple(row for rows in SECTIONS.values() for row in rows)


@lru_cache(maxsize=4096)
def constraints_for(destination: Destination) -> Constraints:
    """Return the rows that apply to requests to a destination."""
    return Constraints(row for row in CONSTRAINTS if row.applies_to(destination))
