"""Gateway routes: answered by `lean.py`, without Django's middleware."""

from django.urls import URLPattern, path, re_path

from proxy import operator_views, views

OPENAI = [
    path("chat/completions", views.chat_completions),
    path("responses", views.responses),
    path("completions", views.completions),
    path("embeddings", views.embeddings),
    path("models", views.model_list),
    path("models/<path:model>", views.model_detail),
]
ANTHROPIC = [
    path("messages", views.messages),
    path("messages/count_tokens", views.count_messages),
    path("models", views.anthropic_model_list),
    path("models/<path:model>", views.anthropic_model_detail),
]
GEMINI_CALLS = [
    path("models/<path:model>:generateContent", views.generate),
    path("models/<path:model>:streamGenerateContent", views.generate_stream),
    path("models/<path:model>:countTokens", views.count_contents),
    path("models/<path:model>:embedContent", views.embed),
    path("models/<path:model>:batchEmbedContents", views.embed_batch),
]
GEMINI_LISTS = [path("models", views.gemini_model_list), path("models/<path:model>", views.gemini_model_detail)]


def below(prefix: str, routes: list[URLPattern]) -> list[URLPattern]:
    return [path(prefix + str(route.pattern), route.callback) for route in routes]


urlpatterns = [
    # `/v1/` serves all three families: Gemini's calls have a verb, and the lists are read by every SDK.
    *below("v1/", GEMINI_CALLS),
    *below("v1/", OPENAI),
    *below("v1/", ANTHROPIC[:2]),
    # A base URL that ends in /v1, in an SDK that adds its own.
    *below("v1/v1/", ANTHROPIC[:2]),
    *below("openai/v1/", OPENAI),
    *below("anthropic/v1/", ANTHROPIC),
    *(route for prefix in ("v1beta/", "gemini/v1/", "gemini/v1beta/") for route in below(prefix, [*GEMINI_CALLS, *GEMINI_LISTS])),
    re_path(r"^anthropic(?:/|$)", views.unknown_anthropic_route),
    re_path(r"^(?:v1beta|gemini)(?:/|$)", views.unknown_gemini_route),
    re_path(r"^(?:v1|openai)(?:/|$)", views.unknown_route),
    path("api/v1/usage/stats", views.usage_stats),
    path("api/v1/usage/costs", views.usage_costs),
    path("api/v1/usage/budget", views.usage_budget),
    path("api/costs", views.costs_by_key),
    path("api/costs/<str:public_id>", views.costs_of_key),
    path("health", operator_views.health),
    path("ready", operator_views.ready),
    path("metrics", operator_views.prometheus),
]
