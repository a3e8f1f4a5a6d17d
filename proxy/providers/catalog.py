"""Providers are data: where they are, which formats they speak, how they want the key, what they want differently, and where their
prices stand. Each row names the vendor's documents that it follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.formats.quirks import Quirks

DEMO = "demo"
COMPATIBLE = "compatible"
OPENAI = "openai"
ANTHROPIC = "anthropic"
GEMINI = "gemini"
AZURE = "azure"

CHAT_FORMAT = "openai_chat"
RESPONSES_FORMAT = "openai_responses"
MESSAGES_FORMAT = "anthropic"


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """`base_urls` says where the paths of each format begin, by format; the first is the one that conversions prefer. An empty
    base is named by each credential. `pricing_provider` is the provider's name in genai-prices; empty where it has no prices.
    """

    slug: str
    name: str
    base_urls: Mapping[str, str]
    pricing_provider: str = ""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    path_prefix: str = ""
    """Put between base and path, with `{model}`: for servers that have the model in the address."""
    query_string: str = ""
    supports_count_tokens: bool = False
    """Whether it counts a request's tokens in its own format; else the gateway answers with an estimate."""

    @property
    def base_url(self) -> str:
        return next(iter(self.base_urls.values()))

    def auth_headers(self, secret: str) -> dict[str, str]:
        return {self.key_header: f"{self.key_prefix}{secret}"} if secret else {}


def openai_compatible(
    slug: str,
    name: str,
    base_url: str,
    pricing_provider: str = "",
    *,
    messages: str = "",
    responses: str = "",
    quirks: Quirks | None = None,
) -> Provider:
    """A server that speaks OpenAI's chat format, and perhaps Anthropic's at `messages` and OpenAI's newer one at `responses`."""
    spoken = {CHAT_FORMAT: base_url, RESPONSES_FORMAT: responses, MESSAGES_FORMAT: messages}
    bases = {format: base for format, base in spoken.items() if base or format == CHAT_FORMAT}
    return Provider(slug, name, bases, pricing_provider, quirks=quirks or Quirks())


OPENAI_BASE_URL = "https://api.openai.com/v1"
XAI_BASE_URL = "https://api.x.ai/v1"
TOP_K_SETTING = frozenset({"top_k"})
PENALTY_SETTINGS = frozenset({"presence_penalty", "frequency_penalty"})
LOW_TO_HIGH_EFFORTS = {"minimal": "low", "xhigh": "high"}
"""For servers whose efforts of reasoning are none, low, medium and high."""

CATALOG = (
    # platform.openai.com/docs/api-reference: chat/create, responses/create. What its reasoning models refuse, and Anthropic's newest,
    # goes by the model's name: formats/openai_chat/models.py, formats/anthropic/models.py.
    Provider(
        OPENAI,
        "OpenAI",
        {CHAT_FORMAT: OPENAI_BASE_URL, RESPONSES_FORMAT: OPENAI_BASE_URL},
        "openai",
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
    ),
    Provider(COMPATIBLE, "OpenAI-compatible server", {CHAT_FORMAT: ""}),
    # platform.claude.com/docs/en/api/overview
    Provider(
        ANTHROPIC,
        "Anthropic",
        {MESSAGES_FORMAT: "https://api.anthropic.com"},
        "anthropic",
        "x-api-key",
        "",
        headers={"anthropic-version": "2023-06-01"},
        supports_count_tokens=True,
    ),
    # ai.google.dev/api
    Provider(
        GEMINI,
        "Google Gemini",
        {"gemini": "https://generativelanguage.googleapis.com"},
        "google",
        "x-goog-api-key",
        "",
        supports_count_tokens=True,
    ),
    # learn.microsoft.com/azure/ai-services/openai/reference: authentication, versioning (the newest version that is no preview).
    Provider(
        AZURE,
        "Azure OpenAI",
        {CHAT_FORMAT: ""},
        "azure",
        "api-key",
        "",
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
        path_prefix="/openai/deployments/{model}",
        query_string="api-version=2024-10-21",
    ),
    # docs.ollama.com/api/openai-compatibility: "Supported request fields".
    openai_compatible(
        "ollama",
        "Ollama",
        "http://localhost:11434/v1",
        quirks=Quirks(
            unsupported=frozenset({"n", "user", "tool_choice"}), effort_aliases=LOW_TO_HIGH_EFFORTS
        ),
    ),
    # docs.vllm.ai, "OpenAI-Compatible Server": extra parameters; `user` is ignored.
    openai_compatible(
        "vllm",
        "vLLM",
        "http://localhost:8000/v1",
        quirks=Quirks(unsupported=frozenset({"user"}), extra_settings=TOP_K_SETTING),
    ),
    # lmstudio.ai/docs/developer/openai-compat/chat-completions: "Supported payload parameters".
    openai_compatible(
        "lmstudio",
        "LM Studio",
        "http://localhost:1234/v1",
        quirks=Quirks(unsupported=frozenset({"n", "user", "logprobs"}), extra_settings=TOP_K_SETTING),
    ),
    # console.groq.com/docs/openai: "Currently Unsupported OpenAI Features"; /docs/api-reference: penalties "not yet supported by any of
    # our models", `max_tokens` deprecated. It refuses fields of a message that it does not know.
    openai_compatible(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "groq",
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            unsupported=PENALTY_SETTINGS | {"n", "logprobs", "thinking"},
            effort_aliases=LOW_TO_HIGH_EFFORTS,
        ),
    ),
    # docs.mistral.ai/api/endpoint/chat. It refuses every field that is not there: `stream_options` too, but its streams end with the
    # usage unasked; and ids of tool calls that are not nine letters and digits.
    openai_compatible(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        "mistral",
        quirks=Quirks(
            unsupported=frozenset({"logprobs", "user", "wants_usage", "thinking"}),
            renamed_settings={"seed": "random_seed"},
            effort_aliases={"minimal": "none", "low": "high", "medium": "high", "xhigh": "high"},
            tool_call_id_length=9,
        ),
    ),
    # api-docs.deepseek.com: api/create-chat-completion (of `response_format` only text and json_object), guides/anthropic_api.
    openai_compatible(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com",
        "deepseek",
        messages="https://api.deepseek.com/anthropic",
        quirks=Quirks(
            unsupported=frozenset({"n", "seed", "user", "parallel_tool_calls"}), supports_json_schema=False
        ),
    ),
    # docs.together.ai: docs/inference/openai-compatibility, reference/chat-completions (`logprobs` is a number there).
    openai_compatible(
        "together",
        "Together",
        "https://api.together.ai/v1",
        "together",
        quirks=Quirks(
            unsupported=frozenset({"logprobs", "user", "parallel_tool_calls"}),
            extra_settings=TOP_K_SETTING,
            effort_aliases={**LOW_TO_HIGH_EFFORTS, "none": "low"},
        ),
    ),
    # docs.fireworks.ai: api-reference/post-chatcompletions, tools-sdks/anthropic-compatibility.
    openai_compatible(
        "fireworks",
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "fireworks",
        messages="https://api.fireworks.ai/inference",
        quirks=Quirks(extra_settings=TOP_K_SETTING, effort_aliases=LOW_TO_HIGH_EFFORTS),
    ),
    # openrouter.ai/docs/api-reference: parameters, anthropic-messages. It leaves out itself what a model does not take.
    openai_compatible(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "openrouter",
        messages="https://openrouter.ai/api",
        quirks=Quirks(extra_settings=TOP_K_SETTING),
    ),
    # docs.x.ai/docs/guides/reasoning: penalties and `stop` "are not supported by reasoning models", which all but grok-3 are.
    openai_compatible(
        "xai",
        "xAI",
        XAI_BASE_URL,
        "x-ai",
        responses=XAI_BASE_URL,
        quirks=Quirks(
            unsupported_by_model=dict.fromkeys(
                ("grok-3-mini", "grok-4", "grok-build", "grok-code", "grok-latest"),
                PENALTY_SETTINGS | {"stop"},
            ),
            effort_aliases=LOW_TO_HIGH_EFFORTS,
        ),
    ),
    # inference-docs.cerebras.ai: resources/openai, api-reference/chat-completions (`max_tokens` deprecated). It refuses fields of a
    # message that it does not know.
    openai_compatible(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "cerebras",
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            unsupported=PENALTY_SETTINGS | {"thinking"},
            effort_aliases=LOW_TO_HIGH_EFFORTS,
        ),
    ),
    # docs.perplexity.ai: docs/agent-api/migrate-from-sonar (its chat completions have ended), api-reference/responses-post. It refuses
    # every field that is not there.
    Provider(
        "perplexity",
        "Perplexity",
        {RESPONSES_FORMAT: "https://api.perplexity.ai/v1"},
        "perplexity",
        quirks=Quirks(
            unsupported=frozenset(
                {
                    "temperature",
                    "top_p",
                    "tool_choice",
                    "parallel_tool_calls",
                    "response_format",
                    "logprobs",
                    "user",
                    "thinking",
                }
            ),
            effort_aliases={"none": "minimal"},
        ),
    ),
    Provider(DEMO, "Built-in demo", {CHAT_FORMAT: ""}),
)
PROVIDERS = {provider.slug: provider for provider in CATALOG}
