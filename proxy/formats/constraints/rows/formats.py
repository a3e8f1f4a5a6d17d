"""Constraints on the response format, and on reasoning efforts."""

from proxy.formats.constraints.constraint import Constraint
from proxy.formats.constraints.rows.names import CHAT, GEMINI, GEMINI_UP_TO_2_5, OPENAI_FORMATS

RESPONSE_FORMATS = (
    Constraint(
        "gemini-format-with-tools",
        "format_with_tools",
        "instruct",
        GEMINI,
        "\"Function calling with a response mime type: 'application/json' is unsupported\" before Gemini 3",
        "https://github.com/googleapis/python-genai/issues/867",
        "2025-05-27",
        models=GEMINI_UP_TO_2_5,
    ),
    Constraint(
        "groq-format-with-tools",
        "format_with_tools",
        "instruct",
        CHAT,
        '"json mode cannot be combined with tool/function calling"',
        "https://console.groq.com/docs/structured-outputs",
        "2026-11-30",
        providers=("groq",),
    ),
    Constraint(
        "cerebras-format-with-tools",
        "format_with_tools",
        "instruct",
        CHAT,
        '""tools" is incompatible with "response_format""',
        "https://inference-docs.cerebras.ai/capabilities/structured-outputs",
        "2026-11-30",
        providers=("cerebras",),
    ),
    Constraint(
        "openai-format-type",
        "format_top_type",
        "instruct",
        OPENAI_FORMATS,
        "a response that is not an object, and keywords such as anyOf at the top level of its schema",
        "https://platform.openai.com/docs/guides/structured-outputs#root-objects-must-not-be-anyof-and-must-be-an-object",
        "2026-11-30",
        names=("oneOf", "anyOf", "allOf", "enum", "const", "not"),
    ),
    Constraint(
        "openai-json-word",
        "json_word",
        "instruct",
        OPENAI_FORMATS,
        "JSON mode if the word JSON is not in the input",
        "https://platform.openai.com/docs/guides/structured-outputs#json-mode",
        "2026-11-30",
    ),
)

LOW_TO_HIGH = ("none", "low", "medium", "high")
LOW_TO_XHIGH = (*LOW_TO_HIGH, "xhigh")
MODEL_PAGES = "https://developers.openai.com/api/docs/models"


def efforts(
    id: str, models: str, *names: str, source: str = MODEL_PAGES, providers: tuple[str, ...] = ()
) -> Constraint:
    """Return the row of models that accept only these reasoning efforts."""
    formats = GEMINI if models.startswith("gemini") else OPENAI_FORMATS
    rejected = f"reasoning efforts other than {', '.join(names)}"
    return Constraint(
        id,
        "efforts",
        "rewrite",
        formats,
        rejected,
        source,
        "2026-11-30",
        providers=providers,
        models=models,
        names=names,
    )


EFFORTS = (
    efforts("o-series-research-efforts", r"(^|/)o[134].*deep-research", "medium"),
    efforts("o-series-efforts", r"(^|/)o[134]", "low", "medium", "high"),
    efforts("gpt-5-pro-efforts", r"(^|/)gpt-5-pro", "high"),
    efforts("gpt-5-codex-efforts", r"(^|/)gpt-5-codex", "low", "medium", "high"),
    efforts("gpt-5-efforts", r"(^|/)gpt-5($|-)", "minimal", "low", "medium", "high"),
    efforts("gpt-5-chat-efforts", r"(^|/)gpt-5\.[12]-chat", "medium"),
    efforts("gpt-5.1-codex-max-efforts", r"(^|/)gpt-5\.1-codex-max", "low", "medium", "high", "xhigh"),
    efforts("gpt-5.1-codex-efforts", r"(^|/)gpt-5\.1-codex", "low", "medium", "high"),
    efforts("gpt-5.1-efforts", r"(^|/)gpt-5\.1", *LOW_TO_HIGH),
    efforts("gpt-5-later-pro-efforts", r"(^|/)gpt-5\.[2-5]-pro", "medium", "high", "xhigh"),
    efforts("gpt-5.2-codex-efforts", r"(^|/)gpt-5\.2-codex", "low", "medium", "high", "xhigh"),
    efforts("gpt-5.2-efforts", r"(^|/)gpt-5\.[2-5]", *LOW_TO_XHIGH),
    efforts("gpt-5.6-efforts", r"(^|/)gpt-5\.[6-9]", *LOW_TO_XHIGH, "max"),
    efforts("gpt-6-without-none-efforts", r"(^|/)gpt-6(-astra|\.1-sol|\.[2-9])", *LOW_TO_XHIGH[1:], "max"),
    efforts("gpt-6-efforts", r"(^|/)gpt-[6-9]", *LOW_TO_XHIGH, "max"),
    efforts(
        "gemini-minimal-efforts",
        r"gemini-(3-flash|3\.\d-flash-lite|3\.5-flash|flash-lite-latest)",
        "minimal",
        *LOW_TO_HIGH[1:],
        source="https://ai.google.dev/gemini-api/docs/thinking",
    ),
    efforts(
        "gemini-3-pro-efforts",
        r"gemini-3-pro",
        "low",
        "high",
        source="https://ai.google.dev/gemini-api/docs/thinking",
    ),
    efforts(
        "gemini-efforts",
        r"gemini-([3-9]|\d\d|.*latest)",
        *LOW_TO_HIGH[1:],
        source="https://ai.google.dev/gemini-api/docs/thinking",
    ),
    efforts(
        "mistral-efforts",
        "",
        "none",
        "high",
        source="https://docs.mistral.ai/capabilities/reasoning",
        providers=("mistral",),
    ),
    efforts(
        "together-efforts",
        "",
        *LOW_TO_HIGH[1:],
        source="https://docs.together.ai/reference/chat-completions",
        providers=("together",),
    ),
    efforts(
        "xai-grok-4.5-efforts",
        r"^grok-4\.5",
        *LOW_TO_HIGH[1:],
        source="https://docs.x.ai/docs/guides/reasoning",
        providers=("xai",),
    ),
    efforts(
        "perplexity-efforts",
        "",
        "minimal",
        *LOW_TO_XHIGH[1:],
        source="https://docs.perplexity.ai/api-reference/responses-post",
        providers=("perplexity",),
    ),
    efforts(
        "ollama-efforts",
        "",
        *LOW_TO_HIGH,
        source="https://docs.ollama.com/api/openai-compatibility",
        providers=("ollama",),
    ),
    efforts(
        "open-model-efforts",
        "",
        *LOW_TO_HIGH,
        source="https://console.groq.com/docs/reasoning",
        providers=("groq", "cerebras", "fireworks", "xai"),
    ),
    efforts(
        "openrouter-efforts",
        "",
        "none",
        "minimal",
        *LOW_TO_XHIGH[1:],
        source="https://openrouter.ai/docs/guides/best-practices/reasoning-tokens",
        providers=("openrouter",),
    ),
    Constraint(
        "other-efforts",
        "efforts",
        "rewrite",
        CHAT,
        "the reasoning efforts xhigh and max",
        "https://docs.vllm.ai/en/latest/features/reasoning_outputs.html",
        "2026-11-30",
        names=("none", "minimal", "low", "medium", "high"),
    ),
)
