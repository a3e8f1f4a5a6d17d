"""Operators' view of money: budgets can be changed, what the ledger and the roll-up write can only be read."""

from typing import Any

from django import forms
from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.forms import UsdField
from billing.models import Budget, BudgetWindow, DailyUsage, DirtyDay, GatewayProcess, RequestWindow, Reservation, UsageRecord
from billing.money import format_usd
from projects.admin import ReadOnlyAdmin


class BudgetForm(forms.ModelForm[Budget]):
    limit_nano = UsdField(label="Limit in USD", widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = Budget
        fields = ("project", "key", "period", "limit_nano")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        key, project = cleaned.get("key"), cleaned.get("project")
        if key and project and key.project_id != project.pk:
            self.add_error("key", "This key belongs to another project.")
        return cleaned


class CostAdmin(ReadOnlyAdmin):
    """Rows with a cost, shown in dollars."""

    exclude = ("cost_nano",)
    readonly_fields = ("cost",)

    @admin.display(description="cost", ordering="cost_nano")
    def cost(self, row: UsageRecord | DailyUsage) -> str:
        return format_usd(row.cost_nano)


@admin.register(Budget)
class BudgetAdmin(ModelAdmin):  # type: ignore[misc]
    form = BudgetForm
    list_display = ("project", "key", "period", "limit")
    list_filter = ("period",)
    list_select_related = ("project", "key")
    search_fields = ("project__name", "project__slug", "key__label", "key__public_id")
    autocomplete_fields = ("project", "key")

    @admin.display(ordering="limit_nano")
    def limit(self, budget: Budget) -> str:
        return format_usd(budget.limit_nano)


@admin.register(BudgetWindow)
class BudgetWindowAdmin(ReadOnlyAdmin):
    list_display = ("name", "budget", "spent", "reserved")
    list_select_related = ("budget__project", "budget__key")
    search_fields = ("name", "budget__project__name", "budget__project__slug", "budget__key__label")
    fields = ("budget", "name", "spent", "reserved")

    @admin.display(ordering="spent_nano")
    def spent(self, window: BudgetWindow) -> str:
        return format_usd(window.spent_nano)

    @admin.display(ordering="reserved_nano")
    def reserved(self, window: BudgetWindow) -> str:
        return format_usd(window.reserved_nano)


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "key", "amount", "process_id")
    list_select_related = ("project", "key")
    search_fields = ("id", "project__slug", "key__public_id", "process_id")
    fields = ("id", "project", "key", "amount", "process_id", "windows")

    @admin.display(ordering="amount_nano")
    def amount(self, reservation: Reservation) -> str:
        return format_usd(reservation.amount_nano)


@admin.register(UsageRecord)
class UsageRecordAdmin(CostAdmin):
    list_display = ("created_at", "project", "key", "model_asked", "outcome", "cost", "input_tokens", "output_tokens", "latency_us")
    list_filter = ("outcome", "provider", "format", "estimated", "day")
    list_select_related = ("project", "key")
    search_fields = ("request_id", "model_asked", "project__slug", "key__public_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(DailyUsage)
class DailyUsageAdmin(CostAdmin):
    list_display = ("day", "project", "key", "model_asked", "provider", "requests", "failures", "input_tokens", "output_tokens", "cost")
    list_filter = ("provider", "day")
    list_select_related = ("project", "key")
    search_fields = ("model_asked", "project__name", "project__slug", "key__label")
    ordering = ("-day",)


@admin.register(RequestWindow)
class RequestWindowAdmin(ReadOnlyAdmin):
    list_display = ("key", "minute", "requests")
    list_select_related = ("key",)
    search_fields = ("key__label", "key__public_id")


@admin.register(GatewayProcess)
class GatewayProcessAdmin(ReadOnlyAdmin):
    list_display = ("id", "seen_at")
    ordering = ("-seen_at",)


@admin.register(DirtyDay)
class DirtyDayAdmin(ReadOnlyAdmin):
    list_display = ("project", "day", "mark")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")
