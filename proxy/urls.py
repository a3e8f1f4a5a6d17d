"""Gateway routes: answered by `lean.py`, without Django's middleware."""

from django.urls import URLPattern, path, re_path

from proxy import operator_views, views

OPENAI = [
    path("chat/completions", views.chat_completions),
    path("responses", views.responses),
    path("completions", views.completions),
    path("embeddings", views.embeddings),
    path("models", views.openai_model_list),
    path("models/<path:model>", views.openai_model_detail),
]
ANTHROPIC = [
    path("messages", views.messages),
    path("messages/count_tokens", views.count_anthropic_tokens),
    path("models", views.anthropic_model_list),
    path("models/<path:model>", views.anthropic_model_detail),
]
GEMINI_ACTIONS = [
    path("models/<path:model>:generateContent", views.generate_content),
    path("models/<path:model>:streamGenerateContent", views.stream_generate_content),
    path("models/<path:model>:countTokens", views.count_gemini_tokens),
    path("models/<path:model>:embedContent", views.embed_content),
    path("models/<path:model>:batchEmbedContents", views.batch_embed_contents),
]
GEMINI_MODELS = [path("models", views.gemini_model_list), path("models/<path:model>", views.gemini_model_detail)]


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
    *(route for prefix in ("v1beta/", "gemini/v1/", "gemini/v1beta/") for route in with_prefix(prefix, [*GEMINI_ACTIONS, *GEMINI_MODELS])),
    re_path(r"^anthropic(?:/|$)", views.anthropic_not_found),
    re_path(r"^(?:v1beta|gemini)(?:/|$)", views.gemini_not_found),
    re_path(r"^(?:v1|openai)(?:/|$)", views.openai_not_found),
    path("api/v1/usage/stats", views.usage_stats),
    path("api/v1/usage/costs", views.usage_costs),
    path("api/v1/usage/budget", views.usage_budget),
    path("api/costs", views.costs_by_key),
    path("api/costs/<str:public_id>", views.costs_for_key),
    path("health", operator_views.health_view),
    path("ready", operator_views.ready_view),
    path("metrics", operator_views.metrics_view),
]
