"""Features of models, by their names: whether they accept images and tools, and their limits.

Vendors' model pages state the features, and genai-prices has the size of the context. For names that match no
pattern, it is not known whether the models accept images and tools.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from billing.pricing import find_model
from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.rows.output_limits import OUTPUT_LIMITS
from proxy.providers import demo
from proxy.providers.provider import Provider

FEATURES: tuple[tuple[str, bool, bool], ...] = (
    (r"embed", False, False),
    (r"(^|/)demo/", False, False),
    # developers.openai.com/api/docs/models: "Modalities" and "Features" of each model.
    (r"(^|/)gpt-3\.5-turbo-instruct", False, False),
    (r"(^|/)gpt-3\.5", False, True),
    (r"(^|/)gpt-4(-\d{4}|-32k.*|-turbo-preview|-\d{4}-preview)?$", False, True),
    (r"(^|/)o1-(mini|preview)", False, False),
    (r"(^|/)(o3-mini|gpt-oss)", False, True),
    (r"(^|/)(gpt-4|gpt-[56]|o1|o3|o4)(?!.*(audio|realtime|transcribe|tts|image|\.ft-))", True, True),
    # platform.claude.com/docs/en/about-claude/models/overview: all models since Claude 3.
    (r"(^|/)claude-(instant|[12v])", False, False),
    (r"(^|/)claude-", True, True),
    # ai.google.dev/gemini-api/docs/models
    (r"(^|/)gemini-(?!.*(tts|live|image|banana|omni|robotics))", True, True),
)
"""For each pattern: whether its models accept images and tools. The first match counts."""
PATTERNS = tuple((re.compile(pattern), vision, tools) for pattern, vision, tools in FEATURES)


@dataclass(frozen=True, slots=True)
class ModelFeatures:
    """The features of a model. A value is None if it is not known."""

    context_window: int | None = None
    max_output_tokens: int | None = None
    vision: bool | None = None
    tools: bool | None = None


@lru_cache(maxsize=4096)
def features_of(provider: Provider, model: str) -> ModelFeatures:
    """Return the features of a model at a provider."""
    found = next((row for row in PATTERNS if row[0].search(model)), None)
    listed = find_model(provider.pricing_provider, model) if provider.pricing_provider else None
    return ModelFeatures(
        listed.context_window if listed else None,
        max_output_tokens(provider, model),
        found[1] if found else None,
        found[2] if found else None,
    )


def max_output_tokens(provider: Provider, model: str) -> int | None:
    """Return the maximum output limit of a model, or None if it is not known."""
    if model == demo.MODELS[0]:
        return demo.MAX_TOKENS
    format = next(iter(provider.base_urls))
    destination = Destination(provider.slug, format, model)
    limit = next((row.maximum for row in OUTPUT_LIMITS if row.applies_to(destination)), None)
    return None if limit is None else int(limit)
