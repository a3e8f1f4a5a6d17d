"""Formats, and patterns of model names, that several rows use.

A model name may have a prefix, such as `openai/` at routers.
"""

from proxy.formats.neutral import Origin

CHAT: tuple[Origin, ...] = ("openai_chat",)
RESPONSES: tuple[Origin, ...] = ("openai_responses",)
OPENAI_FORMATS: tuple[Origin, ...] = ("openai_chat", "openai_responses")
ANTHROPIC: tuple[Origin, ...] = ("anthropic",)
GEMINI: tuple[Origin, ...] = ("gemini",)
ALL_FORMATS: tuple[Origin, ...] = (*OPENAI_FORMATS, *ANTHROPIC, *GEMINI)

OPENAI_NON_REASONING = r"(^|/)(gpt-3|gpt-4|chatgpt|gpt-5-chat|gpt-5\.3-chat)"
OPENAI_REASONING = r"(^|/)(o[134]|gpt-[5-9](?!-chat|\.3-chat))"
"""OpenAI's reasoning models: the o series, GPT-5, and GPT-6 with its variants (gpt-6-astra, gpt-6.2-sol)."""
CLAUDE_FAMILY = r"claude-(opus|sonnet|haiku|fable|mythos)-"
CLAUDE_FROM_4_1 = rf"{CLAUDE_FAMILY}(4[-.][1-9]|[5-9]|\d\d)(?!\d)"
CLAUDE_FROM_4_6 = rf"{CLAUDE_FAMILY}(4[-.][6-9]|[5-9]|\d\d)(?!\d)"
CLAUDE_FROM_4_7 = rf"{CLAUDE_FAMILY}(4[-.][7-9]|[5-9]|\d\d)(?!\d)"
CLAUDE_WITHOUT_FORCED_TOOLS = r"claude-((fable|mythos)-|(opus|sonnet)-(5[-.][5-9]|[6-9]|\d\d)(?!\d))"
GEMINI_UP_TO_2_5 = r"gemini-(1|2)|gemini-pro|gemma"
GEMINI_FROM_2_5 = r"gemini-(2\.5|[3-9]|\d\d|.*latest)"
GEMINI_FROM_3 = r"gemini-([3-9]|\d\d|.*latest)|image"
MISTRAL_MODELS = r"mistral|devstral|ministral|magistral|codestral|mixtral"
