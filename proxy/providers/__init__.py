"""Providers are data: where they are, which formats they speak, how they want the key, and where their prices stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.formats.codec import Quirks

DEMO = "demo"
COMPATIBLE = "compatible"
OPENAI = "openai"
ANTHROPIC = "anthropic"
GEMINI = "gemini"
AZURE = "azure"

CHAT_FORMAT = "openai_chat"


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """`bases` says where the paths of each format begin, by format; the first is the one that conversions prefer. An empty
    base is named by each credential. `prices_id` is the provider's name in genai-prices; empty where it has no prices.
    """

    slug: str
    name: str
    bases: Mapping[str, str]
    prices_id: str = ""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    path_prefix: str = ""
    """Put between base and path, with `{model}`: for servers that have the model in the address."""
    query: str = ""

    @property
    def base_url(self) -> str:
        return next(iter(self.bases.values()))

    def format_for(self, client: str) -> str:
        """The format nearest to the client's: its own, or the one that conversions prefer."""
        return client if client in self.bases else next(iter(self.bases))

    def auth_headers(self, secret: str) -> dict[str, str]:
        return {self.key_header: f"{self.key_prefix}{secret}"} if secret else {}


def compatible(slug: str, name: str, base_url: str, prices_id: str = "", *, messages: str = "", **quirks: object) -> Provider:
    """A server that speaks OpenAI's chat format, and perhaps Anthropic's at `messages`."""
    bases = {CHAT_FORMAT: base_url} | ({"anthropic": messages} if messages else {})
    return Provider(slug, name, bases, prices_id, quirks=Quirks(**quirks))  # type: ignore[arg-type]


OPENAI_BASE = "https://api.openai.com/v1"
ALL = (
    Provider(
        OPENAI,
        "OpenAI",
        {CHAT_FORMAT: OPENAI_BASE, "openai_responses": OPENAI_BASE},
        "openai",
        quirks=Quirks(output_limit_field="max_completion_tokens"),
    ),
    Provider(COMPATIBLE, "OpenAI-compatible server", {CHAT_FORMAT: ""}),
    Provider(
        ANTHROPIC,
        "Anthropic",
        {"anthropic": "https://api.anthropic.com"},
        "anthropic",
        "x-api-key",
        "",
        headers={"anthropic-version": "2023-06-01"},
    ),
    Provider(GEMINI, "Google Gemini", {"gemini": "https://generativelanguage.googleapis.com"}, "google", "x-goog-api-key", ""),
    Provider(
        AZURE,
        "Azure OpenAI",
        {CHAT_FORMAT: ""},
        "azure",
        "api-key",
        "",
        quirks=Quirks(output_limit_field="max_completion_tokens"),
        path_prefix="/openai/deployments/{model}",
        query="api-version=2024-10-21",
    ),
    compatible("ollama", "Ollama", "http://localhost:11434/v1"),
    compatible("vllm", "vLLM", "http://localhost:8000/v1"),
    compatible("lmstudio", "LM Studio", "http://localhost:1234/v1"),
    compatible("groq", "Groq", "https://api.groq.com/openai/v1", "groq"),
    compatible("mistral", "Mistral", "https://api.mistral.ai/v1", "mistral"),
    compatible("deepseek", "DeepSeek", "https://api.deepseek.com/v1", "deepseek", messages="https://api.deepseek.com/anthropic"),
    compatible("together", "Together", "https://api.together.xyz/v1", "together"),
    compatible("fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1", "fireworks"),
    compatible("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "openrouter", messages="https://openrouter.ai/api"),
    compatible("xai", "xAI", "https://api.x.ai/v1", "x-ai"),
    compatible("cerebras", "Cerebras", "https://api.cerebras.ai/v1", "cerebras"),
    compatible("perplexity", "Perplexity", "https://api.perplexity.ai", "perplexity"),
    Provider(DEMO, "Built-in demo", {CHAT_FORMAT: ""}),
)
PROVIDERS = {provider.slug: provider for provider in ALL}
