"""What OpenAI's models accept, by the beginning of their names, whichever server they are called at."""

import re

from proxy.formats.quirks import Quirks

REASONING_MODEL = re.compile(r"(o1|o3|o4|gpt-5)")
NO_STOP_MODEL = re.compile(r"(o3(?!-mini)|o4|gpt-5)")
"""`stop` is "not supported with latest reasoning models" (docs/api-reference/chat/create); o1 and o3-mini take it."""
NON_REASONING_MODEL = re.compile(r"(gpt-3|gpt-4|chatgpt)")


def max_tokens_field(model: str, quirks: Quirks) -> str:
    """Reasoning models refuse `max_tokens` (platform.openai.com/docs/guides/reasoning)."""
    return "max_completion_tokens" if REASONING_MODEL.match(model) else quirks.max_tokens_field
