"""What vendors bill for calls of the tools that they run themselves, where genai-prices does not say so. USD per call.

Kinds are named as `proxy/formats/metering/billable.py` counts them. Tools that are not here, nor in genai-prices, cost their tokens
alone: Anthropic's web fetch, Google's URL context, code execution and file search. Anthropic's code execution is billed by the hour of
a whole organisation, which no answer states (platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing").
"""

from decimal import Decimal

from billing.money import NANO
from billing.pricing.price import Fee

CONTAINER_FEES_USD = {"": "0.03", "_4g": "0.12", "_16g": "0.48", "_64g": "1.92"}
"""A container is billed by the minute, five at least: here as 20 minutes, for which the price is given, since no answer says how long it
ran. Memory in GB, 1 where nothing is said."""
TOOL_FEES_USD: dict[str, dict[str, str]] = {
    # developers.openai.com/api/docs/pricing, "Tools": web search at all models, containers of the code interpreter and the hosted
    # shell, file search. A preview search by a model that does not reason costs more.
    "openai": {
        "web_search": "0.01",
        "web_search_preview": "0.01",
        "file_search": "0.0025",
        **{
            f"{tool}{memory}": usd
            for tool in ("code_interpreter", "shell")
            for memory, usd in CONTAINER_FEES_USD.items()
        },
    },
}
NON_REASONING_PREVIEW_SEARCH_FEE = "0.025"
NON_REASONING = ("gpt-4o", "gpt-4.1")
SEARCH_MODEL_FEES: dict[str, str] = {
    "gpt-4o-search-preview": "0.025",
    "gpt-4o-mini-search-preview": "0.025",
    "gpt-5-search-api": "0.01",
}
"""Models that search at each request, which their answers do not count (same page, "Web search")."""
SEARCH_BILLED_PER_PROMPT = ("gemini-2.", "gemini-1.")
"""Google bills a search by the query, but these models by the prompt, however many queries it took
(ai.google.dev/gemini-api/docs/google-search, "Pricing", and .../maps-grounding, "Pricing and rate limits")."""
MAPS_TOOL = "google_maps"
MAPS_FEE_PER_PROMPT, MAPS_FEE_PER_QUERY = "0.025", "0.014"
"""ai.google.dev/gemini-api/docs/pricing, "Grounding with Google Maps", beyond what is free."""
IMAGE_MODELS = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest", "gpt-image-2")
"""With which OpenAI's image generation makes pictures. All later ones begin as gpt-image-2 does and have its rates
(developers.openai.com/api/docs/guides/image-generation, "Cost and latency")."""
AUDIO_PRICES: dict[str, tuple[str, str]] = {
    "gpt-4o-audio-preview": ("40", "80"),
    "gpt-4o-mini-audio-preview": ("10", "20"),
}
"""USD per million tokens of sound, heard and spoken, of models whose text alone genai-prices knows (the models' own pages at
developers.openai.com/api/docs/models, "Audio tokens")."""


def tool_fees_for(provider_id: str, model: str) -> dict[str, Fee]:
    """The fees of this table for a model, by kind of tool."""
    fees = {kind: Fee(kind, usd_to_nano(usd)) for kind, usd in TOOL_FEES_USD.get(provider_id, {}).items()}
    if "web_search_preview" in fees and model.startswith(NON_REASONING):
        fees["web_search_preview"] = Fee("web_search_preview", usd_to_nano(NON_REASONING_PREVIEW_SEARCH_FEE))
    if provider_id == "google":
        by_prompt = model.startswith(SEARCH_BILLED_PER_PROMPT)
        fees[MAPS_TOOL] = Fee(
            MAPS_TOOL,
            usd_to_nano(MAPS_FEE_PER_PROMPT if by_prompt else MAPS_FEE_PER_QUERY),
            per_request=by_prompt,
        )
    return fees


def fee_per_request(model: str) -> int:
    """Nano-USD that each request to a model costs because it always searches."""
    names = [name for name in SEARCH_MODEL_FEES if model.startswith(name)]
    return usd_to_nano(SEARCH_MODEL_FEES[max(names, key=len)]) if names else 0


def usd_to_nano(usd: str) -> int:
    return int(Decimal(usd) * NANO)
