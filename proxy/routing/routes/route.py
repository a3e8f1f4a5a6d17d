"""Routes as requests use them: names with targets, and the accounts of a target, used in turn."""

from dataclasses import dataclass, field
from itertools import count

from proxy.models.route_definitions import ANY_REQUEST, RuleDefinition, Strategy
from proxy.routing.accounts import Account


class Pool:
    """Accounts that are used in turn: each request begins with the next account."""

    __slots__ = ("accounts", "turns")

    def __init__(self, accounts: tuple[Account, ...]) -> None:
        self.accounts, self.turns = accounts, count()

    def next_order(self) -> tuple[Account, ...]:
        """Return all accounts, beginning with the next one in turn."""
        accounts = self.accounts
        if len(accounts) == 1:
            return accounts
        start = next(self.turns) % len(accounts)
        return accounts[start:] + accounts[:start]


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A model at the accounts of a pool. `timeout_s` is None if the default timeout applies."""

    pool: Pool
    model: str
    weight: int = 1
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A model's name and the targets that serve it.

    `fallbacks` are names of models, which are looked up when a request uses the route. `problems` are the
    reasons why a part of the route cannot be used. `is_projects` is true if the project has defined the
    route. The retry settings are None if those of the environment apply.
    """

    name: str
    targets: tuple[RouteTarget, ...]
    fallbacks: tuple[str, ...] = ()
    strategy: Strategy = "ordered"
    rule: RuleDefinition = field(default=ANY_REQUEST)
    retry_attempts: int | None = None
    retry_delay_ms: int | None = None
    retries_context_length: bool = False
    problems: tuple[str, ...] = ()
    is_projects: bool = False
