"""What vendors bill for calls of the tools that they run themselves, where genai-prices does not say so. USD per call.

Kinds are named as `proxy/formats/server_tools.py` counts them. Tools that are not here, nor in genai-prices, cost their tokens
alone: Anthropic's web fetch and Google's URL context; Anthropic's code execution is billed by the hour of a whole organisation,
which no answer states (platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing").
"""

from decimal import Decimal

from billing.money import NANO
from billing.prices.price import Fee

TOOLS: dict[str, dict[str, str]] = {
    # developers.openai.com/api/docs/pricing, "Tools". A container is billed by the minute, five at least: here as 20 minutes, for which
    # the price is given, since no answer says how long it ran. A preview search by a model that does not reason costs more.
    "openai": {
        "code_interpreter": "0.03",
        "code_interpreter_4g": "0.12",
        "code_interpreter_16g": "0.48",
        "code_interpreter_64g": "1.92",
        "web_search_preview": "0.01",
    },
}
PREVIEW_SEARCH_WITHOUT_REASONING = "0.025"
NOT_REASONING = ("gpt-4o", "gpt-4.1")
ALWAYS_SEARCHES: dict[str, str] = {"gpt-4o-search-preview": "0.025", "gpt-4o-mini-search-preview": "0.025", "gpt-5-search-api": "0.01"}
"""Models that search at each request, which their answers do not count (same page, "Web search")."""
BILLED_BY_PROMPT = ("gemini-2.", "gemini-1.")
"""Google bills a search by the query, but these models by the prompt, however many queries it took
(ai.google.dev/gemini-api/docs/google-search, "Pricing")."""


def listed_fees(provider_id: str, model: str) -> dict[str, Fee]:
    """The fees of this table for a model, by kind of tool."""
    fees = {kind: Fee(kind, nano(usd)) for kind, usd in TOOLS.get(provider_id, {}).items()}
    if "web_search_preview" in fees and model.startswith(NOT_REASONING):
        fees["web_search_preview"] = Fee("web_search_preview", nano(PREVIEW_SEARCH_WITHOUT_REASONING))
    return fees


def fee_per_request(model: str) -> int:
    """Nano-USD that each request to a model costs because it always searches."""
    names = [name for name in ALWAYS_SEARCHES if model.startswith(name)]
    return nano(ALWAYS_SEARCHES[max(names, key=len)]) if names else 0


def nano(usd: str) -> int:
    return int(Decimal(usd) * NANO)
