"""The fields of a request that no format reads, and that are relayed as they came: what some of them would do to its price.

They are told by their names, however those are written: servers in Go read `Models` as `models`, and obey the last one.
"""

from collections.abc import Collection, Mapping
from typing import Any

from proxy.formats.body import decode_fields, mentions
from proxy.formats.letters import check_letters
from proxy.formats.neutral import BadRequest
from proxy.formats.server_tools import objects

LATER = "The field {} asks for an answer that is to be fetched later, which this gateway cannot do. Leave it out, and stream a long answer."
ELSEWHERE = "The field {} lets the provider answer with another model. Leave it out, and name the model to use in model."
REFUSED = {
    # developers.openai.com/api/docs/guides/background; docs.x.ai/docs/guides/deferred-chat-completions
    "background": LATER,
    "deferred": LATER,
    # openrouter.ai/docs/guides/routing/model-fallbacks, docs/model-routing (`route`), docs/features/presets; docs.perplexity.ai/docs/
    # agent-api/model-fallback ("takes precedence over the single model"); platform.claude.com/docs/en/build-with-claude/
    # refusals-and-fallback; docs.keywordsai.co/documentation/products/gateway/traffic_management/fallbacks
    "models": ELSEWHERE,
    "route": ELSEWHERE,
    "preset": ELSEWHERE,
    "fallbacks": ELSEWHERE,
    "fallback_models": ELSEWHERE,
}
"""Fields that nobody may send, each with why."""
OF_OTHER_MODELS = ("plugins", "compound_custom", "provideroptions", "provider_options")
"""Fields by which a provider may be told to ask further models, beside what else is in them: OpenRouter's plugins (fusion, "priced as the
sum of those underlying completions"; web searches, billed by the result), Groq's compound systems, Vercel's gateway (vercel.com/docs/
ai-gateway/models-and-providers/model-fallbacks)."""
ADVISERS = ("advisor", "openrouter:")
"""How the types of tools begin that are, or may ask, another model (platform.claude.com/docs, "Advisor tool";
openrouter.ai/docs/guides/features/server-tools)."""
UNBOUNDED = ("provider", "speed", "prediction", "search_parameters", "compaction", "best_of")
"""Fields whose cost has no bound that is known here: OpenRouter's choice among providers, each with a price of its own
(openrouter.ai/docs/guides/routing/provider-selection), and its fast tier; predictions, of which what was wrong is billed as output beside
the answer (openai.com, docs/guides/predicted-outputs); xAI's live search, billed by the source; a summary made first; answers
that are billed and not shown."""
COMPACTING = "context_management"
"""It sets which parts of a history are dropped, which costs nothing, or compacted, for which the model runs once more."""
UNASKED = (b"null", b"false", b"[]", b"{}", b'""', b"0")
"""Values that ask for nothing."""


def unread_fields(body: bytes, counted: frozenset[str], read: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """What stands beside the fields that a format counts by name; it knows those in `read` as well. Raises BadRequest for what nobody
    may send."""
    given = decode_fields(body)
    if not given.keys() - counted:
        return {}
    others = {name: bytes(raw) for name, raw in given.items() if name not in counted}
    for name, raw in others.items():
        folded = name.casefold()
        if folded in REFUSED and raw not in UNASKED:
            raise BadRequest(REFUSED[folded].format(name), name)
    check_letters(others, counted | read)
    return others


def of_other_models(others: Mapping[str, bytes]) -> tuple[str, ...]:
    """Those of them by which other models may answer too."""
    return tuple(name for name, raw in others.items() if name.casefold() in OF_OTHER_MODELS and raw not in UNASKED)


def advisers(tools: Any) -> tuple[str, ...]:
    """The field of the tools, where one of them brings in another model; OpenAI's for pictures may leave SVG to one."""
    return ("tools",) if any(str(tool.get("type")).startswith(ADVISERS) or model_of_svg(tool) for tool in objects(tools)) else ()


def model_of_svg(tool: dict[str, Any]) -> Any:
    svg = tool.get("svg")
    return svg.get("model") if isinstance(svg, dict) else None


def unbounded(others: Mapping[str, bytes], *own: str) -> tuple[str, ...]:
    """Those of them whose cost has no bound; `own` are such fields of one format alone."""
    return tuple(name for name, raw in others.items() if is_unbounded(name.casefold(), raw, own) and raw not in UNASKED)


def is_unbounded(name: str, raw: bytes, own: Collection[str]) -> bool:
    return name in UNBOUNDED or name in own or (name == COMPACTING and mentions(raw, (b"compact",)))
