"""Gateway routes, which `http/handler.py` dispatches without Django's middleware.

The handler merges repeated slashes and strips a slash at the end of a path, so no complete pattern has a
double slash or ends in a slash.
"""

from collections.abc import Iterable

from django.urls import URLPattern, URLResolver, include, path, re_path

from proxy.endpoints import (
    cache,
    count_tokens,
    enveloped,
    generate,
    health,
    logs,
    metrics,
    models,
    not_found,
    stored_responses,
    usage,
)

OPENAI = [
    path("chat/completions", generate.chat_completions),
    path("responses", generate.responses),
    path("responses/compact", generate.compact),
    path("responses/input_tokens", count_tokens.count_responses_tokens),
    path("responses/<str:response_id>", stored_responses.retrieve_or_delete),
    path("responses/<str:response_id>/cancel", stored_responses.cancel),
    path("responses/<str:response_id>/input_items", stored_responses.list_input_items),
    path("completions", generate.completions),
    path("embeddings", generate.embeddings),
    path("models", models.openai_model_list),
    path("models/<path:model>", models.openai_model_detail),
]
AZURE_DEPLOYMENTS = [
    path("deployments/<path:deployment>/chat/completions", generate.deployment_chat_completions),
    path("deployments/<path:deployment>/completions", generate.deployment_completions),
    path("deployments/<path:deployment>/embeddings", generate.deployment_embeddings),
]
ANTHROPIC_MESSAGES = [
    path("messages", generate.messages),
    path("messages/count_tokens", count_tokens.count_anthropic_tokens),
]
ANTHROPIC_MODELS = [
    path("models", models.anthropic_model_list),
    path("models/<path:model>", models.anthropic_model_detail),
]
GEMINI_ACTIONS = [
    path("models/<path:model>:generateContent", generate.generate_content),
    path("models/<path:model>:streamGenerateContent", generate.stream_generate_content),
    path("models/<path:model>:countTokens", count_tokens.count_gemini_tokens),
    path("models/<path:model>:embedContent", generate.embed_content),
    path("models/<path:model>:batchEmbedContents", generate.batch_embed_contents),
]
GEMINI_MODELS = [
    path("models", models.gemini_model_list),
    path("models/<path:model>", models.gemini_model_detail),
]

COMMON_PREFIXES = ("v1/", "v1/v1/", "")
"""Prefixes that all three API families share.

Gemini's actions must come first in `urlpatterns`, because OpenAI's `models/<path:model>` also matches them.
Other paths do not conflict, and the SDKs of all families can parse the same list of models. If the base URL
ends in /v1 and the SDK adds a version, the path begins with /v1/v1/. If the base URL has no version and the
SDK adds none, the path has no prefix.
"""
OPENAI_PREFIXES = ("openai/v1/", "openai/", "openai/v1/v1/", "v1beta/openai/", "gemini/v1beta/openai/")
"""Azure uses `/openai/`, Google `/v1beta/openai/` (ai.google.dev/gemini-api/docs/openai)."""
ANTHROPIC_PREFIXES = ("anthropic/v1/", "anthropic/", "anthropic/v1/v1/")
GEMINI_PREFIXES = (
    "gemini/",
    *(
        base + version
        for base in ("", "v1beta/", "v1/", "gemini/", "gemini/v1beta/", "gemini/v1/")
        for version in ("v1beta/", "v1/", "v1alpha/")
        if base + version not in COMMON_PREFIXES
    ),
)
"""Google's SDKs add a version to every base URL, even to one that already ends in a version."""


def under(prefixes: Iterable[str], routes: list[URLPattern]) -> list[URLResolver]:
    """Return the routes below each of the prefixes."""
    return [path(prefix, include(routes)) for prefix in prefixes]


urlpatterns = [
    *under(COMMON_PREFIXES, [*GEMINI_ACTIONS, *OPENAI, *ANTHROPIC_MESSAGES]),
    *under(OPENAI_PREFIXES, OPENAI),
    *under(("openai/", ""), AZURE_DEPLOYMENTS),
    *under(ANTHROPIC_PREFIXES, [*ANTHROPIC_MESSAGES, *ANTHROPIC_MODELS]),
    *under(GEMINI_PREFIXES, [*GEMINI_ACTIONS, *GEMINI_MODELS]),
    path("api/v1/completions/chat", enveloped.chat),
    path("api/v1/completions/embeddings", enveloped.embeddings),
    path("api/v1/usage/stats", usage.usage_stats),
    path("api/v1/usage/costs", usage.usage_costs),
    path("api/v1/usage/budget", usage.usage_budget),
    path("api/v1/logs", logs.logs),
    path("api/v1/logs/<str:log_id>", logs.log_detail),
    path("api/prompt-log", logs.prompt_log),
    path("api/costs", usage.costs_by_key),
    path("api/costs/<str:public_id>", usage.costs_for_key),
    path("v1/cache", cache.purge_cache),
    path("health", health.health_view),
    path("ready", health.ready_view),
    path("metrics", metrics.metrics_view),
    re_path(r"^(?:anthropic|(?:v1/)*messages)(?:/|$)", not_found.anthropic_not_found),
    re_path(r"^(?:gemini/)?v1beta/openai(?:/|$)", not_found.openai_not_found),
    re_path(r"^(?:v1beta|v1alpha|gemini)(?:/|$)", not_found.gemini_not_found),
    re_path(
        r"^(?:openai|chat|responses|completions|embeddings|deployments)(?:/|$)", not_found.openai_not_found
    ),
    re_path(r"^(?:v1|models)(?:/|$)", not_found.shared_not_found),
    re_path(r"^api(?:/|$)", not_found.gateway_not_found),
]
