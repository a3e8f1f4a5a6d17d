"""Request as the billing provider reads it: its tokens, tools and tier."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

INPUT, CACHED, WRITTEN = 10, 4, 3
"""Tokens of each prompt, and how many of them are read from a cache and written to one."""
DEFAULT_OUTPUT = 3000
CALLS_OF_A_TOOL = 2
IMAGE_INPUT, IMAGE_OUTPUT = 50, 190
"""Tokens that the image model reads and generates for one image."""


@dataclass
class Job:
    """A request as the provider reads it.

    `tier` is the tier that the provider bills, and `region` its region of inference. `cache_lifetime` is that
    of all cache writes. `tools` counts the calls of the provider's tools, or their containers. If `omits` is
    true, the response leaves out what the request has stated itself.
    """

    model: str
    streams: bool
    output_limits: list[Any]
    choices: Any = 1
    tier: str = ""
    is_tier_requested: bool = False
    region: str = ""
    is_region_requested: bool = False
    cache_lifetime: str = ""
    tools: Counter[str] = field(default_factory=Counter)
    image_model: str = ""
    omits: bool = False

    @property
    def output(self) -> int:
        limits = [limit for limit in self.output_limits if isinstance(limit, int) and limit > 0]
        choices = self.choices if isinstance(self.choices, int) and self.choices > 0 else 1
        return (max(limits) if limits else DEFAULT_OUTPUT) * choices

    @property
    def shows_tier(self) -> bool:
        return not (self.omits and self.is_tier_requested)

    @property
    def shows_region(self) -> bool:
        return not (self.omits and self.is_region_requested)

    @property
    def shows_cache_lifetime(self) -> bool:
        return not self.omits


def allowed_calls(limit: Any) -> int:
    """Return the calls of a tool, within the limit of the request if it is a number of calls."""
    is_limit = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    return min(CALLS_OF_A_TOOL, limit) if is_limit else CALLS_OF_A_TOOL
