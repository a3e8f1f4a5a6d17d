"""Definitions of routes, as the database and the config file contain them."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Strategy = Literal["ordered", "weighted", "cheapest", "least_latency"]
"""How the order of a route's targets is chosen.

`ordered`: as defined. `weighted`: at random by weight. `cheapest`: by the estimated cost of the request.
`least_latency`: by the average time until the headers of a response.
"""
Capability = Literal["vision", "tools"]
"""What a request needs of a model: `vision` if it contains images, `tools` if it offers tools."""
MAX_TIMEOUT_S = 3600
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
SECONDS_PER_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110, section 5.6.2."""
MAX_RETRY_ATTEMPTS = 10
MAX_RETRY_DELAY_MS = 60_000

Tokens = Annotated[int, Meta(ge=0)]
RetryAttempts = Annotated[int, Meta(ge=0, le=MAX_RETRY_ATTEMPTS)]
RetryDelay = Annotated[int, Meta(ge=0, le=MAX_RETRY_DELAY_MS)]


def parse_duration(value: str | float | int) -> float:
    """Return a duration in seconds. Raises ValueError."""
    if not isinstance(value, str):
        return float(value)
    parts = DURATION_PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value or not parts:
        raise ValueError(f"{value!r} is not a duration such as 90s or 5m")
    return sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts)


class TargetDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A target of a route.

    `provider` is a provider, or the name of one account. `model` is the name of the model there; if it is
    empty, it is the name of the route. `timeout` is the longest wait for the next bytes; 0 for the default.
    """

    provider: str
    model: str = ""
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    timeout: str | float | int = 0

    def __post_init__(self) -> None:
        if not 0 <= parse_duration(self.timeout) <= MAX_TIMEOUT_S:
            raise ValueError(f"the timeout must be between 0 and {MAX_TIMEOUT_S} seconds")

    @property
    def timeout_s(self) -> float | None:
        """Return the timeout in seconds, or None for the default."""
        return parse_duration(self.timeout) or None


class RuleDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The requests to which a route applies: those that meet all of its conditions.

    `keys` are public ids of API keys. `headers` and `metadata` are values that the request must have, by
    their names. The limits on input tokens are compared with an estimate. `capabilities` are those that the
    request needs.
    """

    keys: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    min_input_tokens: Tokens = 0
    max_input_tokens: Tokens | None = None
    capabilities: tuple[Capability, ...] = ()

    def __post_init__(self) -> None:
        if self.max_input_tokens is not None and self.min_input_tokens > self.max_input_tokens:
            raise ValueError("min_input_tokens is more than max_input_tokens, so no request meets the rule")
        for name in self.headers:
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")


ANY_REQUEST = RuleDefinition()


class RouteDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's name, the targets that serve it, and the models that serve it if these targets fail.

    A fallback is the name of another route, `provider/model`, or a model of the bundled catalog. The retry
    settings are None if those of the environment apply.
    """

    name: Annotated[str, Meta(min_length=1)]
    targets: tuple[TargetDefinition, ...] = ()
    fallbacks: tuple[str, ...] = ()
    strategy: Strategy = "ordered"
    rule: RuleDefinition = ANY_REQUEST
    retry_attempts: RetryAttempts | None = None
    retry_delay_ms: RetryDelay | None = None
    retries_context_length: bool = False
