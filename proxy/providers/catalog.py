"""The catalog of providers: URLs, formats, authentication, quirks and prices as data.

The comment of a vendor's row names the documents that the row follows.
"""

from proxy.formats.quirks import Quirks
from proxy.providers import demo
from proxy.providers.provider import (
    CHAT_FORMAT,
    GEMINI_FORMAT,
    MESSAGES_FORMAT,
    RESPONSES_FORMAT,
    Provider,
    openai_compatible,
)

DEMO = "demo"
COMPATIBLE = "compatible"
OPENAI = "openai"
ANTHROPIC = "anthropic"
GEMINI = "gemini"
AZURE = "azure"

OPENAI_BASE_URL = "https://api.openai.com/v1"
XAI_BASE_URL = "https://api.x.ai/v1"
TOP_K_SETTING = frozenset({"top_k"})
PENALTY_SETTINGS = frozenset({"presence_penalty", "frequency_penalty"})
ALL_SERVER_TOOLS = frozenset({"web_search", "web_fetch", "code_execution"})

CATALOG = (
    # platform.openai.com/docs/api-reference: chat/create, responses/create. Settings that only some models
    # reject are in `proxy/formats/constraints/`, because they depend on the model's name.
    Provider(
        OPENAI,
        "OpenAI",
        {CHAT_FORMAT: OPENAI_BASE_URL, RESPONSES_FORMAT: OPENAI_BASE_URL},
        "openai",
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            server_tools=frozenset({"web_search", "code_execution"}),
        ),
        supports_count_tokens=True,  # responses/input-tokens
        regional_hosts=".api.openai.com",  # docs/guides/data-residency
    ),
    Provider(COMPATIBLE, "OpenAI-compatible server", {CHAT_FORMAT: ""}, has_public_url=False),
    # platform.claude.com/docs/en/api/overview
    Provider(
        ANTHROPIC,
        "Anthropic",
        {MESSAGES_FORMAT: "https://api.anthropic.com"},
        "anthropic",
        "x-api-key",
        "",
        headers={"anthropic-version": "2023-06-01"},
        redundant_endings=("/v1",),
        check_path="/v1/models?limit=1",  # api/models/list
        quirks=Quirks(server_tools=ALL_SERVER_TOOLS),
        supports_count_tokens=True,
    ),
    # ai.google.dev/api
    Provider(
        GEMINI,
        "Google Gemini",
        {GEMINI_FORMAT: "https://generativelanguage.googleapis.com"},
        "google",
        "x-goog-api-key",
        "",
        redundant_endings=("/models", "/openai", "/v1beta", "/v1"),
        check_path="/v1beta/models?pageSize=1",  # api/models#method:-models.list
        quirks=Quirks(server_tools=ALL_SERVER_TOOLS),
        supports_count_tokens=True,
    ),
    # learn.microsoft.com/azure/ai-services/openai/reference: authentication, versioning. The row has the
    # newest version that is not a preview.
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
        redundant_endings=("/openai/v1", "/openai"),
        check_path="/openai/models?api-version=2024-10-21",  # rest/api/azureopenai/models/list
        has_public_url=False,
    ),
    # docs.ollama.com/api/openai-compatibility: "Supported request fields".
    openai_compatible(
        "ollama",
        "Ollama",
        "http://localhost:11434/v1",
        quirks=Quirks(unsupported=frozenset({"n", "user", "tool_choice"})),
        has_public_url=False,
    ),
    # docs.vllm.ai, "OpenAI-Compatible Server": extra parameters; `user` is ignored.
    openai_compatible(
        "vllm",
        "vLLM",
        "http://localhost:8000/v1",
        quirks=Quirks(unsupported=frozenset({"user"}), extra_settings=TOP_K_SETTING),
        has_public_url=False,
    ),
    # lmstudio.ai/docs/developer/openai-compat/chat-completions: "Supported payload parameters".
    openai_compatible(
        "lmstudio",
        "LM Studio",
        "http://localhost:1234/v1",
        quirks=Quirks(unsupported=frozenset({"n", "user", "logprobs"}), extra_settings=TOP_K_SETTING),
        has_public_url=False,
    ),
    # console.groq.com/docs/openai: "Currently Unsupported OpenAI Features"; /docs/api-reference: penalties
    # "not yet supported by any of our models", `max_tokens` deprecated. It rejects unknown fields of a
    # message.
    openai_compatible(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "groq",
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            unsupported=PENALTY_SETTINGS | {"n", "logprobs"},
        ),
    ),
    # docs.mistral.ai/api/endpoint/chat. It rejects every field that is not documented there, `stream_options`
    # too (its streams always end with the usage), and tool call ids that are not nine letters and digits.
    openai_compatible(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        "mistral",
        quirks=Quirks(
            unsupported=frozenset({"logprobs", "user", "wants_usage"}),
            renamed_settings={"seed": "random_seed"},
            tool_call_id_length=9,
        ),
    ),
    # api-docs.deepseek.com: api/create-chat-completion (`response_format` may be text or json_object only),
    # guides/anthropic_api.
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
    # docs.together.ai: docs/inference/openai-compatibility, reference/chat-completions (`logprobs` is a
    # number there).
    openai_compatible(
        "together",
        "Together",
        "https://api.together.ai/v1",
        "together",
        quirks=Quirks(
            unsupported=frozenset({"logprobs", "user", "parallel_tool_calls"}),
            extra_settings=TOP_K_SETTING,
        ),
    ),
    # docs.fireworks.ai: api-reference/post-chatcompletions, tools-sdks/anthropic-compatibility.
    openai_compatible(
        "fireworks",
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "fireworks",
        messages="https://api.fireworks.ai/inference",
        quirks=Quirks(extra_settings=TOP_K_SETTING),
    ),
    # openrouter.ai/docs/api-reference: parameters, anthropic-messages. OpenRouter itself
    # drops settings that a model does not support.
    openai_compatible(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "openrouter",
        messages="https://openrouter.ai/api",
        quirks=Quirks(extra_settings=TOP_K_SETTING),
        check_path="/key",  # api-reference/api-keys/get-current-key; the list of models needs no key
    ),
    # docs.x.ai/docs/guides/reasoning: penalties and `stop` "are not supported by reasoning models". All
    # models except grok-3 are reasoning models.
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
        ),
        regional_hosts=".api.x.ai",  # developers/advanced-api-usage/regions
    ),
    # inference-docs.cerebras.ai: resources/openai, api-reference/chat-completions (`max_tokens` deprecated).
    # It rejects unknown fields of a message.
    openai_compatible(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "cerebras",
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            unsupported=PENALTY_SETTINGS,
        ),
    ),
    # docs.perplexity.ai: docs/agent-api/migrate-from-sonar (chat completions were removed),
    # api-reference/responses-post. It rejects every field that is not documented there.
    Provider(
        "perplexity",
        "Perplexity",
        {RESPONSES_FORMAT: "https://api.perplexity.ai/v1"},
        "perplexity",
        check_needs_key=False,  # api-reference/models-get: the list of models needs no key
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
        ),
    ),
    Provider(
        DEMO,
        "Built-in demo",
        {CHAT_FORMAT: ""},
        has_public_url=False,
        client=DEMO,
        bytes_per_token=demo.BYTES_PER_TOKEN,
        default_max_tokens=demo.DEFAULT_MAX_TOKENS,
        fixed_price=demo.PRICE,
    ),
)
PROVIDERS = {provider.slug: provider for provider in CATALOG}
