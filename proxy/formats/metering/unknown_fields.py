"""Unknown fields of a request, which the gateway passes on unchanged, and their effect on the cost.

A field that is null, false, 0 or empty has no effect. Names are compared without case, because servers in Go
read `Models` as `models`, and use the last of two such fields.
"""

from collections.abc import Collection, Mapping
from typing import Any

from proxy.formats.field_case import check_letters
from proxy.formats.json_body import dict_items, encode
from proxy.formats.neutral import InvalidRequest

ASYNC_ERROR = (
    "The field {} asks for a response that is fetched later, which this URL does not support. "
    "Remove the field, and stream long responses."
)
MODEL_OVERRIDE_ERROR = (
    "The field {} lets the provider use another model. "
    "Remove the field, and name the model in the field model."
)
FORBIDDEN_FIELDS = {
    # developers.openai.com/api/docs/guides/background; docs.x.ai/docs/guides/deferred-chat-completions
    "background": ASYNC_ERROR,
    "deferred": ASYNC_ERROR,
    # openrouter.ai/docs/guides/routing/model-fallbacks, docs/model-routing (`route`), docs/features/presets
    # docs.perplexity.ai/docs/agent-api/model-fallback ("takes precedence over the single model")
    # platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
    # docs.keywordsai.co/documentation/products/gateway/traffic_management/fallbacks
    "models": MODEL_OVERRIDE_ERROR,
    "route": MODEL_OVERRIDE_ERROR,
    "preset": MODEL_OVERRIDE_ERROR,
    "fallbacks": MODEL_OVERRIDE_ERROR,
    "fallback_models": MODEL_OVERRIDE_ERROR,
}
"""Fields that are rejected, each with the message for the client."""
OTHER_MODEL_FIELDS = ("plugins", "compound_custom", "provideroptions", "provider_options")
"""Fields that may make a provider call further models.

`plugins` is OpenRouter's: fusion is "priced as the sum of those underlying completions", and web searches are
billed by the result. `compound_custom` is Groq's. The others are those of Vercel's gateway
(vercel.com/docs/ai-gateway/models-and-providers/model-fallbacks).
"""
MODEL_CALLING_TOOL_PREFIXES = ("advisor", "openrouter:")
"""Prefixes of the types of tools that call another model, or may do so.

Sources: platform.claude.com/docs, "Advisor tool"; openrouter.ai/docs/guides/features/server-tools.
"""
UNBOUNDED_COST_FIELDS = (
    *("provider", "speed", "prediction", "search_parameters", "compaction", "best_of"),
    "multi_agent",
)
"""Fields whose cost has no known bound.

- `provider`, `speed`: OpenRouter's choice among providers with different prices, and its fast tier
  (openrouter.ai/docs/guides/routing/provider-selection).
- `prediction`: OpenAI bills the rejected part of a prediction as output (docs/guides/predicted-outputs).
- `search_parameters`: xAI's live search, billed by the source.
- `compaction`: the model first generates a summary.
- `best_of`: completions that are billed but not returned.
- `multi_agent`: the tokens of further agents are added to those of the response (SDK `openai`).
"""
KNOWN_MODES = (None, "", "standard")
"""Values of `reasoning.mode` whose cost has a known bound.

In OpenAI's `pro` mode, the model works on a request several times, and the tokens of all runs are billed
(developers.openai.com/api/docs/guides/reasoning, "Reasoning mode").
"""
KNOWN_SEARCH_SETTINGS = {"search_context_size", "user_location"}
"""Settings of `web_search_options` that the known fees cover.

Perplexity's `search_type: pro` has a higher fee (docs.perplexity.ai/docs/getting-started/pricing).
"""


def extract_unknown_fields(
    fields: Mapping[str, Any], bounded_fields: frozenset[str], read_fields: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the fields of a body that are not in `bounded_fields`. Raises InvalidRequest.

    The format knows a bound of the cost of `bounded_fields`. `read_fields` are other fields that it knows. A
    forbidden field is an error, and so is a name that differs from a known name only in its case.
    """
    if fields.keys() <= bounded_fields:
        return {}
    unknown_fields = {name: value for name, value in fields.items() if name not in bounded_fields}
    for name, value in unknown_fields.items():
        folded = name.casefold()
        if folded in FORBIDDEN_FIELDS and value:
            raise InvalidRequest(FORBIDDEN_FIELDS[folded].format(name), name)
    check_letters(unknown_fields, bounded_fields | read_fields)
    return unknown_fields


def fields_allowing_other_models(unknown_fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that allow other models to generate a part of the response."""
    return tuple(
        name for name, value in unknown_fields.items() if value and name.casefold() in OTHER_MODEL_FIELDS
    )


def first_value(unknown_fields: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field whose name may be written in any case; None without the field."""
    return next((value for given, value in unknown_fields.items() if given.casefold() == name), None)


def model_calling_tools(tools: Any) -> tuple[str, ...]:
    """Return the field `tools` if one of the tools calls another model.

    OpenAI's image generation may call another model for SVG.
    """
    return (
        ("tools",)
        if any(
            str(tool.get("type")).startswith(MODEL_CALLING_TOOL_PREFIXES) or svg_model(tool)
            for tool in dict_items(tools)
        )
        else ()
    )


def svg_model(tool: dict[str, Any]) -> Any:
    svg = tool.get("svg")
    return svg.get("model") if isinstance(svg, dict) else None


def unbounded_cost_fields(unknown_fields: Mapping[str, Any], *format_fields: str) -> tuple[str, ...]:
    """Return the fields whose cost has no known bound.

    `format_fields` are fields of this kind that only one format has.
    """
    return tuple(
        name
        for name, value in unknown_fields.items()
        if value and has_unbounded_cost(name.casefold(), value, format_fields)
    )


def has_unbounded_cost(name: str, value: Any, format_fields: Collection[str]) -> bool:
    """Return whether a field has no known bound of its cost.

    `context_management` may drop parts of a history, which costs nothing, or compact them, for which the
    model runs again.
    """
    match name, value:
        case "reasoning", {"mode": mode}:
            return mode not in KNOWN_MODES
        case "web_search_options", dict():
            return not value.keys() <= KNOWN_SEARCH_SETTINGS
        case "context_management", _:
            return b"compact" in encode(value)
        case _:
            return name in UNBOUNDED_COST_FIELDS or name in format_fields
