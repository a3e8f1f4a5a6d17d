"""All routes. Gateway routes come first; `asgi.py` serves them without Django's middleware."""

from django.contrib import admin
from django.urls import include, path

handler500 = "gateway_project.dashboard.error_pages.server_error"

urlpatterns = [
    path("", include("proxy.urls")),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    path("", include("gateway_project.dashboard.urls")),
]
