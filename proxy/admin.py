"""Admin pages of credentials, routes, stored requests and responses, issued ids and the prompt log.

Credentials belong to tenants, so the operator can neither see nor change their secrets here.
"""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from projects.admin import ReadOnlyAdmin
from proxy.models import (
    BackgroundResponse,
    Credential,
    IdempotentRequest,
    IssuedId,
    PromptLogEntry,
    PromptLogSettings,
    PromptLogUser,
    Route,
)

TEST_RESULT = ("last_success_at", "last_error_at", "last_error")


@admin.register(Credential)
class CredentialAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("slug", "project", "provider", "base_url", "last_success_at", "last_error_at")
    list_filter = ("provider", "created_at")
    list_select_related = ("project",)
    search_fields = ("slug", "base_url", "project__name", "project__slug")
    fields = (
        "project",
        "slug",
        "provider",
        "base_url",
        "model_names",
        "created_at",
        *TEST_RESULT,
    )
    readonly_fields = ("project", "provider", "base_url", "created_at", *TEST_RESULT)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Route)
class RouteAdmin(ReadOnlyAdmin):
    list_display = ("name", "project", "strategy", "created_at")
    list_filter = ("strategy", "created_at")
    list_select_related = ("project",)
    search_fields = ("name", "project__name", "project__slug")


@admin.register(IdempotentRequest)
class IdempotentRequestAdmin(ReadOnlyAdmin):
    list_display = ("key", "project", "expires_at")
    list_select_related = ("project",)
    search_fields = ("key", "project__name", "project__slug")
    fields = ("project", "key", "expires_at")


@admin.register(IssuedId)
class IssuedIdAdmin(ReadOnlyAdmin):
    list_display = ("kind", "account", "project", "expires_at")
    list_filter = ("kind", "account")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")
    fields = ("project", "account", "kind", "expires_at")


@admin.register(BackgroundResponse)
class BackgroundResponseAdmin(ReadOnlyAdmin):
    list_display = ("response_id", "account", "project", "created_at", "polls", "next_poll_at")
    list_filter = ("account",)
    list_select_related = ("project",)
    search_fields = ("response_id", "project__name", "project__slug")
    fields = ("project", "account", "response_id", "created_at", "polls", "next_poll_at")


@admin.register(PromptLogSettings)
class PromptLogSettingsAdmin(ReadOnlyAdmin):
    list_display = ("project", "mode", "retention_days")
    list_filter = ("mode",)
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")


@admin.register(PromptLogEntry)
class PromptLogEntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "project")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")
    fields = ("id", "project")
    ordering = ("-pk",)
    show_full_result_count = False


@admin.register(PromptLogUser)
class PromptLogUserAdmin(ReadOnlyAdmin):
    list_display = ("entry", "project")
    list_select_related = ("entry", "project")
    search_fields = ("digest",)
    fields = ("entry", "project", "digest")
    show_full_result_count = False
