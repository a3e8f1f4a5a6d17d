"""URLs of the management API.

They come before those of the gateway, which respond to all other paths below `/api`.
"""

from django.urls import path, re_path

from gateway_project.api import keys, projects, schema
from gateway_project.api.views import NotFoundView

PROJECT = "api/v1/projects/<slug:slug>"

urlpatterns = [
    path("api/schema", schema.schema_view, name="api-schema"),
    path("api/docs", schema.docs_view, name="api-docs"),
    path("api/docs/<str:name>", schema.docs_asset, name="api-docs-asset"),
    path("api/v1/projects", projects.ProjectList.as_view()),
    path("api/v1/projects/api-keys", keys.OwnKeyList.as_view()),
    path(PROJECT, projects.ProjectDetail.as_view()),
    path(f"{PROJECT}/cache", projects.ProjectCache.as_view()),
    path(f"{PROJECT}/keys", keys.KeyList.as_view()),
    path(f"{PROJECT}/keys/<str:public_id>", keys.KeyDetail.as_view()),
    path(f"{PROJECT}/keys/<str:public_id>/rotate", keys.KeyRotation.as_view()),
    re_path(r"^api/v1/(?:projects|tokens)(?:/|$)", NotFoundView.as_view()),
]
