"""Admin of API keys and access tokens. Operators can revoke both. Pages of the project create keys."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from keys.models import AccessToken, ApiKey


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


@admin.register(AccessToken)
class AccessTokenAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "user", "public_id", "created_at", "expires_at", "revoked_at", "last_used_on")
    list_select_related = ("user",)
    search_fields = ("name", "public_id", "user__email")
    fields = (
        *("user", "name", "public_id", "scopes"),
        *("created_at", "expires_at", "revoked_at", "last_used_on"),
    )
    readonly_fields = fields
    actions = ("revoke_tokens",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        return False

    @admin.action(description="Revoke the selected tokens", permissions=("change",))
    def revoke_tokens(self, request: HttpRequest, tokens: QuerySet[AccessToken]) -> None:
        for token in tokens:
            token.revoke()
        self.message_user(request, f"{len(tokens)} tokens revoked.")
