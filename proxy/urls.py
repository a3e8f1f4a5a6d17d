"""Gateway routes, which `http/handler.py` dispatches without Django's middleware."""

from django.urls import URLPattern, path, re_path

from proxy.endpoints import count_tokens, generate, health, metrics, models, not_found, usage

OPENAI = [
    path("chat/completions", generate.chat_completions),
    path("responses", generate.responses),
    path("completions", generate.completions),
    path("embeddings", generate.embeddings),
    path("models", models.openai_model_list),
    path("models/<path:model>", models.openai_model_detail),
]
ANTHROPIC = [
    path("messages", generate.messages),
    path("messages/count_tokens", count_tokens.count_anthropic_tokens),
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


def with_prefix(prefix: str, routes: list[URLPattern]) -> list[URLPattern]:
    return [path(prefix + str(route.pattern), route.callback) for route in routes]


urlpatterns = [
    # `/v1/` serves all three API families without a conflict: Gemini's paths end in a verb, and every SDK
    # can read the one list of models.
    *with_prefix("v1/", GEMINI_ACTIONS),
    *with_prefix("v1/", OPENAI),
    *with_prefix("v1/", ANTHROPIC[:2]),
    # For a base URL that ends in /v1 and an SDK that adds another one.
    *with_prefix("v1/v1/", ANTHROPIC[:2]),
    *with_prefix("openai/v1/", OPENAI),
    *with_prefix("anthropic/v1/", ANTHROPIC),
    *(
        route
        for prefix in ("v1beta/", "gemini/v1/", "gemini/v1beta/")
        for route in with_prefix(prefix, [*GEMINI_ACTIONS, *GEMINI_MODELS])
    ),
    re_path(r"^anthropic(?:/|$)", not_found.anthropic_not_found),
    re_path(r"^(?:v1beta|gemini)(?:/|$)", not_found.gemini_not_found),
    re_path(r"^(?:v1|openai)(?:/|$)", not_found.openai_not_found),
    path("api/v1/usage/stats", usage.usage_stats),
    path("api/v1/usage/costs", usage.usage_costs),
    path("api/v1/usage/budget", usage.usage_budget),
    path("api/costs", usage.costs_by_key),
    path("api/costs/<str:public_id>", usage.costs_for_key),
    path("health", health.health_view),
    path("ready", health.ready_view),
    path("metrics", metrics.metrics_view),
]
