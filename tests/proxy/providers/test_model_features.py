"""Features of models by their names."""

import pytest

from proxy.providers.catalog import PROVIDERS
from proxy.providers.model_features import ModelFeatures, features_of


@pytest.mark.parametrize(
    ("provider", "model", "features"),
    [
        ("openai", "gpt-4o-mini", ModelFeatures(128_000, 16_384, True, True)),
        ("openai", "gpt-4o-2024-05-13", ModelFeatures(128_000, 4_096, True, True)),
        ("openai", "gpt-3.5-turbo", ModelFeatures(16_385, 4_096, False, True)),
        ("openai", "o3-mini", ModelFeatures(200_000, 100_000, False, True)),
        ("openai", "text-embedding-3-small", ModelFeatures(8_192, None, False, False)),
        ("openai", "gpt-4o-transcribe", ModelFeatures(16_000, 16_384, None, None)),
        ("anthropic", "claude-opus-4-8", ModelFeatures(1_000_000, 128_000, True, True)),
        ("gemini", "gemini-3.8-flash", ModelFeatures(1_000_000, 65_536, True, True)),
        ("demo", "demo/chat", ModelFeatures(None, 32_768, False, False)),
        ("compatible", "my-llama", ModelFeatures()),
        ("openrouter", "anthropic/claude-opus-4.8", ModelFeatures(1_000_000, 128_000, True, True)),
    ],
)
def test_features_follow_from_the_name(provider: str, model: str, features: ModelFeatures) -> None:
    assert features_of(PROVIDERS[provider], model) == features
