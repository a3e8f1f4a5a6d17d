"""Admin of API keys, in which operators can change and revoke keys. Pages of the project create keys."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from keys.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "label",
        "masked",
        "project",
        "is_usable",
        "rpm_limit",
        "created_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at", "expires_at")
    list_select_related = ("project",)
    search_fields = ("label", "public_id", "project__name", "project__slug")
    fields = (
        "project",
        "label",
        "masked",
        "scopes",
        "allowed_models",
        "rpm_limit",
        "tpm_limit",
        "concurrency_limit",
        "expires_at",
        "revoked_at",
        "created_at",
        "created_by",
    )
    readonly_fields = (
        "project",
        "masked",
        "scopes",
        "allowed_models",
        "revoked_at",
        "created_at",
        "created_by",
    )
    actions = ("revoke_keys",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    @admin.display(boolean=True, description="usable")
    def is_usable(self, key: ApiKey) -> bool:
        return key.is_active

    @admin.action(description="Revoke the selected keys", permissions=("change",))
    def revoke_keys(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            key.revoke()
        self.message_user(request, f"{len(keys)} keys revoked.")
