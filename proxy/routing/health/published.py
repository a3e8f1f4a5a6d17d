"""Problems of targets that the processes of a gateway publish to each other."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Problem(NamedTuple):
    """A target or credential should not be called until a Unix time in seconds, for a reason."""

    until: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PublishedHealth:
    """The problems of all processes, by the id of a target or credential.

    `breakers` are open breakers, `credentials` rejected credentials, and `access` credentials without access
    to a model.
    """

    breakers: dict[str, Problem] = field(default_factory=dict)
    credentials: dict[str, Problem] = field(default_factory=dict)
    access: dict[str, Problem] = field(default_factory=dict)


NOTHING_PUBLISHED = PublishedHealth()
