"""Adaptation of requests to their destination: applies the constraints, one rule after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.formats.constraints.aliases import Aliases
from proxy.formats.constraints.constraint import Constraints, Destination
from proxy.formats.constraints.content import (
    drop_message_fields,
    end_with_user,
    fix_media,
    limit_cache_breakpoints,
    return_thinking,
    separate_results,
)
from proxy.formats.constraints.output_limits import (
    fit_output_limit,
    fit_thinking_budget,
    min_output,
)
from proxy.formats.constraints.settings import (
    Adapted,
    clamp_values,
    drop_settings,
    fit_effort,
    fit_seed,
    fit_tools_to_chat,
    hash_user,
    limit_stop_sequences,
    needs_responses,
)
from proxy.formats.constraints.table import constraints_for
from proxy.formats.constraints.tools import (
    adapt_names,
    drop_choice_without_tools,
    drop_repeated_tools,
    fit_response_format,
    fit_strict,
    fit_tool_choice,
    limit_tools,
    shorten_descriptions,
)
from proxy.formats.neutral import Request
from proxy.formats.quirks import Quirks

STEPS: tuple[Callable[[Request, Constraints], Adapted], ...] = (
    hash_user,
    fit_tools_to_chat,
    fit_effort,
    drop_settings,
    clamp_values,
    fit_seed,
    limit_stop_sequences,
    fit_output_limit,
    fit_thinking_budget,
    drop_repeated_tools,
    limit_tools,
    shorten_descriptions,
    fit_tool_choice,
    drop_choice_without_tools,
    fit_response_format,
    drop_message_fields,
    return_thinking,
    end_with_user,
    separate_results,
    fix_media,
    limit_cache_breakpoints,
)
"""The steps in the order in which they run.

The order matters. For example, a model that reasons accepts fewer sampling settings, so reasoning is decided
before sampling.
"""


WIRE_FIELDS: dict[str, tuple[str, ...]] = {
    "logprobs": ("logprobs", "top_logprobs"),
    "stop": ("stop", "stop_sequences"),
    "reasoning": ("reasoning", "reasoning_effort", "thinking"),
}
"""The fields of a body that contain a setting. Other settings are in the field of the same name."""
CHAT = "openai_chat"
DEPRECATED_LIMIT = "max_tokens"

encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class AdaptedRequest:
    """A request that is changed so that its destination accepts it.

    `changes` are entries of `x-gateway-dropped`. `aliases` contains the names that are replaced in the
    request, and must be restored in the response. `min_tokens` is the lowest output limit that the
    destination accepts.
    """

    request: Request
    changes: tuple[str, ...]
    aliases: Aliases
    min_tokens: int


def has_tools_for_responses(request: Request, destination: Destination) -> bool:
    """Return whether the destination accepts the tools of a request only in the Responses API."""
    return needs_responses(request, constraints_for(destination))


def min_output_tokens(destination: Destination) -> int:
    """Return the lowest output limit that the destination accepts."""
    return min_output(constraints_for(destination))


def adapt(request: Request, destination: Destination) -> AdaptedRequest:
    """Return the request in a form that its destination accepts.

    The destination may still reject it for a reason that the table does not contain.
    """
    constraints, changes = constraints_for(destination), list[str]()
    for step in STEPS:
        request, named = step(request, constraints)
        changes += named
    request, named, aliases = adapt_names(request, constraints)
    request, lenient = fit_strict(request, constraints)
    changes += [*named, *lenient]
    return AdaptedRequest(request, tuple(dict.fromkeys(changes)), aliases, min_output(constraints))


def fit_body(
    body: bytes, request: Request, destination: Destination, quirks: Quirks
) -> tuple[bytes, tuple[str, ...]]:
    """Return a passed-through body without the settings that a model rejects, and the dropped fields.

    The client did not choose the model: it is the successor of a retired one, or a fallback. All other
    fields, known or not, stay as they are. `request` is the neutral form of the client's request. An output
    limit gets the name that the vendor's newer models expect.
    """
    fitted, _ = drop_settings(request, constraints_for(destination))
    fields, changed = decode(body), dropped_names(request, fitted)
    dropped = [field for name in changed for field in WIRE_FIELDS.get(name, (name,)) if field in fields]
    renames_limit = destination.format == CHAT and is_renamed(fields, quirks)
    if not dropped and not renames_limit:
        return body, ()
    kept: Mapping[str, Any] = {name: value for name, value in fields.items() if name not in dropped}
    if renames_limit:
        kept = {limit_name(name, quirks): value for name, value in kept.items()}
    return encode(kept), tuple(dropped)


def dropped_names(request: Request, fitted: Request) -> list[str]:
    """Return the settings that differ between two forms of a request."""
    return [name for name in request.__struct_fields__ if getattr(request, name) != getattr(fitted, name)]


def is_renamed(fields: Mapping[str, Any], quirks: Quirks) -> bool:
    """Return whether the body has only the old name of the output limit, and the vendor expects a new one."""
    return DEPRECATED_LIMIT in fields and quirks.max_tokens_field not in fields


def limit_name(name: str, quirks: Quirks) -> str:
    return quirks.max_tokens_field if name == DEPRECATED_LIMIT else name
