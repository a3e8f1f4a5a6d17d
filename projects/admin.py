"""Operators' admin of users, projects and memberships."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from projects.models import AuditEntry, ConfigVersion, Invitation, Membership, Project, User


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Admin of rows that only the gateway writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    autocomplete_fields = ("user",)
    extra = 0


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User], ModelAdmin):  # type: ignore[misc]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    list_display = ("email", "is_active", "is_staff", "date_joined", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "date_joined")
    search_fields = ("email", "first_name", "last_name")
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Name", {"fields": ("first_name", "last_name")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "password1", "password2")}),)


@admin.register(Project)
class ProjectAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "name",
        "slug",
        "timezone",
        "uses_operator_credentials",
        "accepts_provider_keys",
        "created_at",
    )
    list_filter = ("uses_operator_credentials", "accepts_provider_keys", "created_at")
    search_fields = ("name", "slug")
    readonly_fields = ("created_at",)
    inlines = (MembershipInline,)


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role",)
    search_fields = ("user__email", "project__name", "project__slug")
    autocomplete_fields = ("user", "project")


@admin.register(ConfigVersion)
class ConfigVersionAdmin(ReadOnlyAdmin):
    list_display = ("pk", "version")


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ("email", "project", "role", "created_at", "expires_at", "accepted_at", "revoked_at")
    list_select_related = ("project",)
    search_fields = ("email", "project__name", "project__slug")
    fields = (
        *("project", "email", "role", "invited_by"),
        *("created_at", "expires_at", "accepted_at", "revoked_at"),
    )


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor", "via", "address", "action", "model", "subject")
    list_filter = ("action", "via", "model")
    search_fields = ("actor", "subject")
    # The project may have been deleted, so it is shown by its id.
    fields = ("project_id", "created_at", "actor", "via", "address", "action", "model", "subject", "fields")
    readonly_fields = fields
