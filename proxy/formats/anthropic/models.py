"""What Claude's generations accept, by the model's name. Servers of other models that speak this format are sent the plain form.

Sources: platform.claude.com/docs, "Adaptive thinking", "Effort", "Structured outputs", "Mid-conversation system messages" and
the migration guides.
"""

import re
from functools import lru_cache

from proxy.formats.neutral import Frozen

NAME = re.compile(r"claude-(?P<family>opus|sonnet|haiku|fable|mythos)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)")
OLD_NAME = re.compile(r"claude-(?P<major>\d)(?:[-.](?P<minor>\d))?-(?P<family>opus|sonnet|haiku)")


class Facts(Frozen, frozen=True):
    """`adaptive`: thinks by effort only, a budget is an error. `always_thinks`: even `disabled` is one. `samples`: takes temperature,
    top_p and top_k. `samples_twice`: takes temperature and top_p together. `structured`: holds itself to a schema. `system_turns`:
    takes system messages among the others. `output`: the limit, in tokens, for clients of formats that need none: what every model
    of the generation takes ("Models overview").
    """

    adaptive: bool = False
    always_thinks: bool = False
    xhigh: bool = False
    samples: bool = True
    samples_twice: bool = True
    structured: bool = True
    system_turns: bool = False
    output: int = 4096


@lru_cache(maxsize=1024)
def facts(model: str) -> Facts:
    """The date in a name such as claude-sonnet-4-20250514 is no minor version."""
    named = NAME.search(model) or OLD_NAME.search(model)
    if not named:
        return Facts()
    family, generation = named["family"], (int(named["major"]), int(named["minor"] or 0))
    newest = generation >= (4, 7)
    return Facts(
        adaptive=newest,
        always_thinks=family in ("fable", "mythos"),
        xhigh=newest and family in ("opus", "fable", "mythos"),
        samples=not newest,
        samples_twice=generation < (4, 1),
        structured=generation >= (4, 5),
        system_turns=generation >= (4, 8),
        output=32_000 if generation >= (3, 7) else 8192 if generation >= (3, 5) else 4096,
    )
