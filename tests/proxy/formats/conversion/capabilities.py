"""Capabilities of the formats, as data."""

SUPPORTED_EVERYWHERE = frozenset(["max_tokens", "temperature", "top_p", "stream", "response_format"])
SETTINGS = SUPPORTED_EVERYWHERE | {
    "parallel_tool_calls",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "logprobs",
    "user",
}
DYNAMIC_BUDGET = -1
REQUEST_CAPABILITIES: dict[str, frozenset[str]] = {
    "openai_chat": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "user",
    }
    | {
        "effort",
        "names of formats",
        "strict tools",
        "detail",
        "names of files",
        "refusals",
        "instructions in the middle",
    },
    "openai_responses": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "logprobs",
        "user",
        "effort",
        "visible thoughts",
        "names of formats",
        "strict tools",
        "detail",
    }
    | {
        "names of files",
        "addresses of files",
        "media in results",
        "refusals",
        "instructions in the middle",
        "free text",
        "several names",
    },
    "anthropic": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "top_k",
        "stop",
        "user",
        "strict tools",
        "names of files",
        "addresses of files",
        "media in results",
    }
    | {"failed results", "cache"},
    "gemini": SUPPORTED_EVERYWHERE
    | {
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "budget",
        "visible thoughts",
    }
    | {"addresses of files", "failed results", "several names"},
}
RESPONSE_CAPABILITIES: dict[str, frozenset[str]] = {
    "openai_chat": frozenset({"refusals", "several answers", "cache writes"}),
    "openai_responses": frozenset({"refusals", "other ends", "cache writes"}),
    "anthropic": frozenset({"stop sequences", "cache writes", "hours of cache writes"}),
    "gemini": frozenset({"several answers", "other ends"}),
}
SHOWN_BY_DEFAULT_ELSEWHERE = frozenset(
    {"media in results", "instructions in the middle", "free text", "several names", "names of formats"}
)
"""Features that other formats express in another place."""
REFUSED = frozenset({"addresses of files", "n"})
"""Features for which a request may be rejected if the target's format does not have them."""
