"""Adaptation of settings to their destination: drops, clamps, hashes or rewrites them."""

import hashlib
import re
from typing import Any

from msgspec.structs import replace

from proxy.formats.constraints.constraint import Constraint, Constraints, changed
from proxy.formats.neutral import Reasoning, Request
from proxy.formats.quirks import drop_unsupported
from proxy.formats.reasoning import effort_from_budget

Adapted = tuple[Request, list[str]]
"""The adapted request, and its changes as entries of `x-gateway-dropped`."""

DEFAULT_EFFORT = "medium"
"""The effort that OpenAI's codecs send if the client asks for reasoning without an effort."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
DEFAULT_VALUES = {"temperature": 1, "top_p": 1}
"""Values that every model uses by default, so nothing is lost if they are dropped."""


def hash_user(request: Request, constraints: Constraints) -> Adapted:
    """Replace a user identifier that the destination rejects by its hash.

    The same identifier always has the same hash, so the provider can still tell users apart.
    """
    row, user = constraints.first("user"), request.user
    if row is None or not user or fits(row, user):
        return request, []
    digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
    return replace(request, user=digest), [changed("user", "hashed")]


def fits(row: Constraint, text: str) -> bool:
    return row.allows(len(text)) and (not row.pattern or re.fullmatch(row.pattern, text) is not None)


def drop_settings(request: Request, constraints: Constraints) -> Adapted:
    """Drop the settings that the model rejects.

    Some settings are always rejected, some only while the model reasons, and some only together with another
    setting.
    """
    names = constraints.names("unsupported_settings")
    if not (request.reasoning is not None and request.reasoning.effort == "none"):
        names |= constraints.names("sampling")
    names |= exclusive_names(request, constraints)
    meaningless = {name for name, value in DEFAULT_VALUES.items() if getattr(request, name) == value}
    adapted, dropped = drop_unsupported(request, names)
    return adapted, [name for name in dropped if name not in meaningless]


def exclusive_names(request: Request, constraints: Constraints) -> frozenset[str]:
    """Return the settings to drop because they exclude each other.

    If a request has all settings of a row, one of them is dropped: the first that has its default value
    (`DEFAULT_VALUES`), or else the last one of the row.
    """
    return frozenset(
        next(
            (name for name in row.names if getattr(request, name) == DEFAULT_VALUES.get(name)), row.names[-1]
        )
        for row in constraints.all("exclusive")
        if all(getattr(request, name) is not None for name in row.names)
    )


def clamp_values(request: Request, constraints: Constraints) -> Adapted:
    """Move numbers into the range that the destination accepts. For each setting, the first row applies."""
    clamped: dict[str, Any] = {}
    changes: list[str] = []
    for name, row in ranges(constraints).items():
        value = getattr(request, name)
        if value is None or row.allows(value):
            continue
        how = "raised" if row.minimum is not None and value < row.minimum else "lowered"
        limit = row.minimum if how == "raised" else row.maximum
        clamped[name] = int(limit or 0) if isinstance(value, int) else limit
        changes.append(changed(name, how))
    return replace(request, **clamped), changes


def ranges(constraints: Constraints) -> dict[str, Constraint]:
    found: dict[str, Constraint] = {}
    for row in constraints.all("range"):
        for name in row.names:
            found.setdefault(name, row)
    return found


def fit_seed(request: Request, constraints: Constraints) -> Adapted:
    """Replace a seed that is out of range by one in the range. Equal seeds get equal replacements."""
    row, seed = constraints.first("seed"), request.seed
    if row is None or row.maximum is None or seed is None or row.allows(seed):
        return request, []
    return replace(request, seed=seed % int(row.maximum)), [changed("seed", "rewritten")]


def limit_stop_sequences(request: Request, constraints: Constraints) -> Adapted:
    """Drop stop sequences that the destination rejects: blank ones, and those above its maximum number."""
    stop = request.stop
    if constraints.first("blank_stop"):
        stop = tuple(sequence for sequence in stop if sequence.strip())
    row = constraints.first("stop_count")
    if row is not None and row.maximum is not None:
        stop = stop[: int(row.maximum)]
    return (request, []) if stop == request.stop else (replace(request, stop=stop), ["stop"])


# Reasoning ----------------------------------------------------------------------------------------


def fit_effort(request: Request, constraints: Constraints) -> Adapted:
    """Replace a reasoning effort that the model does not support by the nearest one that it supports.

    The change is reported if the client chose the effort, but not if the effort was derived from a budget.
    """
    row, reasoning = constraints.first("efforts"), request.reasoning
    if row is None or reasoning is None:
        return request, []
    default = None if "gemini" in row.formats else DEFAULT_EFFORT
    wanted = reasoning.effort or effort_from_budget(reasoning.budget, default)
    if wanted is None or wanted in row.names or wanted not in EFFORTS:
        return request, []
    nearest = nearest_effort(wanted, row.names)
    how = "raised" if EFFORTS.index(nearest) > EFFORTS.index(wanted) else "lowered"
    named = [changed("reasoning", how)] if reasoning.effort else []
    return replace(request, reasoning=with_effort(reasoning, nearest)), named


def with_effort(reasoning: Reasoning, effort: str) -> Reasoning:
    return replace(reasoning, effort=effort, budget=None)


def nearest_effort(wanted: str, known: tuple[str, ...]) -> str:
    """Return the nearest of the supported efforts. Of two that are equally near, return the higher one."""
    place = EFFORTS.index(wanted)
    return min(known, key=lambda name: (abs(EFFORTS.index(name) - place), -EFFORTS.index(name)))


def needs_responses(request: Request, constraints: Constraints) -> bool:
    """Return whether the destination accepts the tools of a request only in the Responses API.

    If the client asks for no effort, chat completions accept the tools, unless the model always reasons.
    """
    if not takes_tools_without_effort(request, constraints):
        return False
    return sent_effort(request.reasoning) not in (None, "none") or not can_skip_reasoning(constraints)


def fit_tools_to_chat(request: Request, constraints: Constraints) -> Adapted:
    """Turn reasoning off if there are tools that the model accepts in chat only while it does not reason."""
    if not (takes_tools_without_effort(request, constraints) and can_skip_reasoning(constraints)):
        return request, []
    is_off = sent_effort(request.reasoning) == "none"
    named = [] if request.reasoning is None or is_off else ["reasoning"]
    return replace(request, reasoning=Reasoning(effort="none")), named


def takes_tools_without_effort(request: Request, constraints: Constraints) -> bool:
    return bool(request.tools) and constraints.first("tools_by_responses") is not None


def sent_effort(reasoning: Reasoning | None) -> str | None:
    """Return the effort that OpenAI's codecs render for a setting; None without a setting."""
    if reasoning is None:
        return None
    return reasoning.effort or effort_from_budget(reasoning.budget, DEFAULT_EFFORT)


def can_skip_reasoning(constraints: Constraints) -> bool:
    known = constraints.first("efforts")
    return known is not None and "none" in known.names
