"""Providers are data: where they are, which format they speak, how they want the key, and where their prices stand."""

from dataclasses import dataclass

DEMO = "demo"
COMPATIBLE = "compatible"
OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class Provider:
    """`base_url` is where the paths of its format begin; empty where every credential names its own.

    `prices_id` is the provider's name in genai-prices; empty where it has no prices.
    """

    slug: str
    name: str
    format: str
    base_url: str = ""
    prices_id: str = ""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    output_limit_field: str = "max_tokens"

    def auth_headers(self, secret: str) -> dict[str, str]:
        return {self.key_header: f"{self.key_prefix}{secret}"} if secret else {}


PROVIDERS = {
    provider.slug: provider
    for provider in (
        Provider(OPENAI, "OpenAI", "openai", "https://api.openai.com/v1", "openai", output_limit_field="max_completion_tokens"),
        Provider(COMPATIBLE, "OpenAI-compatible server", "openai"),
        Provider("anthropic", "Anthropic", "anthropic", "https://api.anthropic.com", "anthropic", "x-api-key", ""),
        Provider("gemini", "Google Gemini", "gemini", "https://generativelanguage.googleapis.com", "google", "x-goog-api-key", ""),
        Provider(DEMO, "Built-in demo", "openai"),
    )
}
