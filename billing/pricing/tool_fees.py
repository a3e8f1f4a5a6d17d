"""Vendors' fees for server tools that genai-prices does not list, in USD per call.

The kinds are those that `proxy/formats/metering/billable.py` counts. A tool that is neither here nor in
genai-prices has no known price.
"""

from decimal import Decimal

from billing.money import NANO
from billing.pricing.price import Fee

CONTAINER_FEES_USD = {"": "0.03", "_4g": "0.12", "_16g": "0.48", "_64g": "1.92"}
"""The fee of a container for 20 minutes, by the suffix for its memory. Without a suffix, it has 1 GB.

OpenAI bills containers by the minute, and at least five minutes. No response reports how long a container
ran, so the gateway charges 20 minutes, for which OpenAI lists prices.
"""
TOOL_FEES_USD: dict[str, dict[str, str]] = {
    # developers.openai.com/api/docs/pricing, "Tools": web search, containers of the code interpreter and of
    # the hosted shell, and file search, for all models. See NON_REASONING_PREVIEW_SEARCH_FEE for the
    # exception.
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
FREE_TOOLS: dict[str, tuple[str, ...]] = {
    # developers.openai.com/api/docs/pricing lists no fees for these tools. Images are billed by the tokens of
    # their model.
    "openai": ("image_generation", "mcp", "tool_search"),
    # platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing". Code execution is billed by
    # the hour of a whole organisation, which no response reports.
    "anthropic": ("web_fetch", "code_execution", "tool_search", "mcp"),
    # ai.google.dev/gemini-api/docs/pricing, "Pricing for tools"
    "google": ("url_context", "code_execution", "file_search", "computer_use"),
    # docs.perplexity.ai/docs/getting-started/pricing: the fee of a request includes its search.
    "perplexity": ("web_search",),
}
"""Tools whose calls cost only their tokens."""
NON_REASONING_PREVIEW_SEARCH_FEE = "0.025"
"""The fee of a preview search by a model that does not reason."""
NON_REASONING = ("gpt-4o", "gpt-4.1")
SEARCH_MODEL_FEES: dict[str, str] = {
    "gpt-4o-search-preview": "0.025",
    "gpt-4o-mini-search-preview": "0.025",
    "gpt-5-search-api": "0.01",
}
"""Fees per request of models that search in every request without reporting it (same page, "Web search")."""
SEARCH_BILLED_PER_PROMPT = ("gemini-2.", "gemini-1.")
"""Prefixes of Google's models whose searches are billed per prompt. For other models, each query is billed
(ai.google.dev/gemini-api/docs/google-search, "Pricing", and .../maps-grounding, "Pricing and rate limits").
"""
MAPS_TOOL = "google_maps"
MAPS_FEE_PER_PROMPT, MAPS_FEE_PER_QUERY = "0.025", "0.014"
"""Fees beyond the free quota (ai.google.dev/gemini-api/docs/pricing, "Grounding with Google Maps")."""
IMAGE_MODELS = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest", "gpt-image-2")
"""Prefixes of the names of models that OpenAI's image generation tool uses.

Later models have names that start with gpt-image-2, and have its rates
(developers.openai.com/api/docs/guides/image-generation, "Cost and latency").
"""
AUDIO_PRICES: dict[str, tuple[str, str]] = {
    "gpt-4o-audio-preview": ("40", "80"),
    "gpt-4o-mini-audio-preview": ("10", "20"),
}
"""USD per million audio tokens of the input and of the output.

These are models for which genai-prices only has text prices. Sources are the models' pages at
developers.openai.com/api/docs/models, "Audio tokens".
"""


def tool_fees_for(provider_id: str, model: str) -> dict[str, Fee]:
    """Return the fees of a model from the tables above, by kind of tool."""
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
    """Return the fee per request, in nano-USD, of a model that searches in every request; 0 for others."""
    names = [name for name in SEARCH_MODEL_FEES if model.startswith(name)]
    return usd_to_nano(SEARCH_MODEL_FEES[max(names, key=len)]) if names else 0


def usd_to_nano(usd: str) -> int:
    return int(Decimal(usd) * NANO)
