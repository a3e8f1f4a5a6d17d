"""All routes. `asgi.py` serves gateway routes (`proxy.urls`) without Django's middleware.

The REST API comes first, because the gateway responds to all other paths below `/api`.
"""

from django.contrib import admin
from django.urls import include, path

handler400 = "gateway_project.api.errors.bad_request"
handler404 = "gateway_project.api.errors.not_found"
handler500 = "gateway_project.api.errors.server_error"

urlpatterns = [
    path("", include("gateway_project.api.urls")),
    path("", include("proxy.urls")),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    path("", include("gateway_project.dashboard.urls")),
]
