"""Constraints on the output limit: the maximum of each model, and the minimum of each API."""

from proxy.formats.constraints.constraint import Constraint
from proxy.formats.constraints.rows.names import (
    ALL_FORMATS,
    ANTHROPIC,
    CHAT,
    CLAUDE_FAMILY,
    GEMINI,
    RESPONSES,
)

OPENAI_SOURCE = "https://developers.openai.com/api/docs/models"
CLAUDE_SOURCE = "https://platform.claude.com/docs/en/models"
GEMINI_SOURCE = "https://ai.google.dev/gemini-api/docs/models"
GROQ_SOURCE = "https://console.groq.com/docs/models"


def most(id: str, maximum: int, models: str, source: str, providers: tuple[str, ...] = ()) -> Constraint:
    """Return the row of models with this maximum output limit, at any provider that uses these names."""
    return Constraint(
        id,
        "max_tokens",
        "lower",
        ALL_FORMATS,
        f"an output limit above {maximum:,} tokens",
        source,
        "2026-11-30",
        providers=providers,
        models=models,
        maximum=maximum,
    )


OUTPUT_LIMITS = (
    most("gpt-oss-groq-output", 65_536, r"gpt-oss", GROQ_SOURCE, ("groq",)),
    most("llama-3.3-groq-output", 32_768, r"llama-3\.3-70b", GROQ_SOURCE, ("groq",)),
    most("llama-4-groq-output", 8_192, r"llama-4", GROQ_SOURCE, ("groq",)),
    most("compound-groq-output", 8_192, r"compound", GROQ_SOURCE, ("groq",)),
    most("qwen3-groq-output", 40_960, r"qwen3-32b", GROQ_SOURCE, ("groq",)),
    most(
        "deepseek-output",
        393_216,
        r"deepseek",
        "https://api-docs.deepseek.com/quick_start/pricing",
        ("deepseek",),
    ),
    most("gpt-3.5-output", 4_096, r"(^|/)gpt-3\.5-turbo", OPENAI_SOURCE),
    most("gpt-4o-2024-05-13-output", 4_096, r"(^|/)gpt-4o-2024-05-13", OPENAI_SOURCE),
    most("gpt-4o-output", 16_384, r"(^|/)(gpt-4o|chatgpt-4o|gpt-4\.5)", OPENAI_SOURCE),
    most("gpt-4.1-output", 32_768, r"(^|/)gpt-4\.1", OPENAI_SOURCE),
    most("gpt-4-turbo-output", 4_096, r"(^|/)gpt-4-(turbo|1106|0125|vision)", OPENAI_SOURCE),
    most("gpt-4-output", 8_192, r"(^|/)gpt-4(-0\d+)?$", OPENAI_SOURCE),
    most("o-series-output", 100_000, r"(^|/)(o1(?!-mini|-preview)|o3|o4-mini)", OPENAI_SOURCE),
    most("gpt-5-pro-output", 272_000, r"(^|/)gpt-5-pro", OPENAI_SOURCE),
    most("gpt-5-chat-output", 16_384, r"(^|/)gpt-5(\.\d)?-chat", OPENAI_SOURCE),
    most("gpt-5-output", 128_000, r"(^|/)gpt-[56]", OPENAI_SOURCE),
    most("claude-3-output", 4_096, r"claude-3-(haiku|opus|sonnet)", CLAUDE_SOURCE),
    most("claude-3.5-output", 8_192, r"claude-3[-.]5", CLAUDE_SOURCE),
    most("claude-3.7-output", 64_000, r"claude-3[-.]7", CLAUDE_SOURCE),
    most("claude-opus-4.1-output", 32_000, r"claude-opus-4($|-2025|[-.][01](?!\d))", CLAUDE_SOURCE),
    most("claude-opus-4.6-output", 128_000, r"claude-opus-4[-.][6-9](?!\d)", CLAUDE_SOURCE),
    most("claude-4-output", 64_000, rf"{CLAUDE_FAMILY}4", CLAUDE_SOURCE),
    most("claude-output", 128_000, rf"{CLAUDE_FAMILY}([5-9]|\d\d)(?!\d)", CLAUDE_SOURCE),
    most("gemini-2.0-output", 8_192, r"gemini-(1\.5|2\.0)", GEMINI_SOURCE),
    most("gemini-image-output", 32_768, r"gemini-(2\.5-flash|3-pro)-image", GEMINI_SOURCE),
    most("gemini-output", 65_536, r"gemini-(2\.5|[3-9]|\d\d|.*latest)", GEMINI_SOURCE),
)

OTHER_LIMITS = (
    Constraint(
        "fireworks-output-without-stream",
        "max_tokens_without_stream",
        "lower",
        CHAT,
        '"Requests with max_tokens > 4096 must have stream=true"',
        "https://docs.fireworks.ai/guides/querying-text-models",
        "2026-11-30",
        providers=("fireworks",),
        maximum=4096,
    ),
    Constraint(
        "responses-min-output",
        "min_tokens",
        "raise",
        RESPONSES,
        "an output limit below 16 tokens: \"Invalid 'max_output_tokens': integer below minimum value\"",
        "https://platform.openai.com/docs/api-reference/responses/create#responses-create-max_output_tokens",
        "2026-11-30",
        providers=("openai",),
        minimum=16,
    ),
    Constraint(
        "anthropic-thinking-budget",
        "thinking_budget",
        "lower",
        ANTHROPIC,
        "a thinking budget below 1,024 tokens, or one that reaches the output limit",
        "https://platform.claude.com/docs/en/build-with-claude/extended-thinking",
        "2026-11-30",
        minimum=1024,
    ),
    Constraint(
        "gemini-pro-thinking-budget",
        "thinking_budget",
        "lower",
        GEMINI,
        "a thinking budget outside of 128 to 32,768 tokens",
        "https://ai.google.dev/gemini-api/docs/thinking",
        "2026-11-30",
        models=r"-pro",
        minimum=128,
        maximum=32_768,
    ),
    Constraint(
        "gemini-thinking-budget",
        "thinking_budget",
        "lower",
        GEMINI,
        "a thinking budget above 24,576 tokens",
        "https://ai.google.dev/gemini-api/docs/thinking",
        "2026-11-30",
        minimum=0,
        maximum=24_576,
    ),
)
