"""Gateway routes: answered by `http/handler.py`, without Django's middleware."""

from django.urls import URLPattern, path, re_path

from proxy.endpoints import generate, health

OPENAI = [
    path("chat/completions", generate.chat_completions),
    path("responses", generate.responses),
    path("completions", generate.completions),
    path("embeddings", generate.embeddings),
    path("models", generate.openai_model_list),
    path("models/<path:model>", generate.openai_model_detail),
]
ANTHROPIC = [
    path("messages", generate.messages),
    path("messages/count_tokens", generate.count_anthropic_tokens),
    path("models", generate.anthropic_model_list),
    path("models/<path:model>", generate.anthropic_model_detail),
]
GEMINI_ACTIONS = [
    path("models/<path:model>:generateContent", generate.generate_content),
    path("models/<path:model>:streamGenerateContent", generate.stream_generate_content),
    path("models/<path:model>:countTokens", generate.count_gemini_tokens),
    path("models/<path:model>:embedContent", generate.embed_content),
    path("models/<path:model>:batchEmbedContents", generate.batch_embed_contents),
]
GEMINI_MODELS = [
    path("models", generate.gemini_model_list),
    path("models/<path:model>", generate.gemini_model_detail),
]


def with_prefix(prefix: str, routes: list[URLPattern]) -> list[URLPattern]:
    return [path(prefix + str(route.pattern), route.callback) for route in routes]


urlpatterns = [
    # `/v1/` serves all three families: Gemini's calls have a verb, and the lists are read by every SDK.
    *with_prefix("v1/", GEMINI_ACTIONS),
    *with_prefix("v1/", OPENAI),
    *with_prefix("v1/", ANTHROPIC[:2]),
    # A base URL that ends in /v1, in an SDK that adds its own.
    *with_prefix("v1/v1/", ANTHROPIC[:2]),
    *with_prefix("openai/v1/", OPENAI),
    *with_prefix("anthropic/v1/", ANTHROPIC),
    *(
        route
        for prefix in ("v1beta/", "gemini/v1/", "gemini/v1beta/")
        for route in with_prefix(prefix, [*GEMINI_ACTIONS, *GEMINI_MODELS])
    ),
    re_path(r"^anthropic(?:/|$)", generate.anthropic_not_found),
    re_path(r"^(?:v1beta|gemini)(?:/|$)", generate.gemini_not_found),
    re_path(r"^(?:v1|openai)(?:/|$)", generate.openai_not_found),
    path("api/v1/usage/stats", generate.usage_stats),
    path("api/v1/usage/costs", generate.usage_costs),
    path("api/v1/usage/budget", generate.usage_budget),
    path("api/costs", generate.costs_by_key),
    path("api/costs/<str:public_id>", generate.costs_for_key),
    path("health", health.health_view),
    path("ready", health.ready_view),
    path("metrics", health.metrics_view),
]
