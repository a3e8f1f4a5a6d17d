"""Gateway routes: answered by `lean.py`, without Django's middleware."""

from django.urls import path, re_path

from proxy import operator_views, views

OPENAI_ROUTES = [
    path("chat/completions", views.chat_completions),
    path("embeddings", views.embeddings),
    path("models", views.model_list),
    path("models/<path:model>", views.model_detail),
]

urlpatterns = [
    *(path(prefix + str(route.pattern), route.callback) for prefix in ("v1/", "openai/v1/") for route in OPENAI_ROUTES),
    re_path(r"^(?:v1|v1beta|openai|anthropic|gemini)(?:/|$)", views.unknown_route),
    path("health", operator_views.health),
    path("ready", operator_views.ready),
    path("metrics", operator_views.prometheus),
]
