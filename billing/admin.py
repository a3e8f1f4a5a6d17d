"""Admin pages of billing.

Operators can change budgets and prices. Rows that the gateway writes are read-only.
"""

from typing import Any

from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.budgets.forms import BudgetFieldsForm
from billing.models import (
    AdminAlert,
    Alert,
    ArchivedUsage,
    Budget,
    BudgetWindow,
    DailyUsage,
    Delivery,
    PriceOverride,
    Reservation,
    StaleDay,
    StreamCursor,
    UnsentRecord,
    UsageRecord,
    Webhook,
)
from billing.money import decimal_usd, format_usd
from billing.pricing.forms import RATE_FIELDS, PriceForm
from projects.admin import ReadOnlyAdmin


class BudgetAdminForm(BudgetFieldsForm):
    class Meta:
        model = Budget
        fields = ("project", "key", "period", "mode", "limit_nano", "thresholds")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in BudgetFieldsForm.declared_fields:
            self.fields[name].widget = UnfoldAdminTextInputWidget()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        key, project = cleaned.get("key"), cleaned.get("project")
        if key and project and key.project_id != project.pk:
            self.add_error("key", "This key belongs to another project. Choose one of the budget's project.")
        return cleaned


class CostAdmin(ReadOnlyAdmin):
    """Read-only admin that shows the cost of a row in US dollars."""

    exclude = ("cost_nano",)
    readonly_fields = ("cost",)

    @admin.display(description="cost", ordering="cost_nano")
    def cost(self, row: UsageRecord | DailyUsage) -> str:
        return format_usd(row.cost_nano)


@admin.register(Budget)
class BudgetAdmin(ModelAdmin):  # type: ignore[misc]
    form = BudgetAdminForm
    list_display = ("project", "key", "period", "mode", "limit")
    list_filter = ("period", "mode")
    list_select_related = ("project", "key")
    search_fields = ("project__name", "project__slug", "key__label", "key__public_id")
    autocomplete_fields = ("project", "key")

    @admin.display(ordering="limit_nano")
    def limit(self, budget: Budget) -> str:
        return format_usd(budget.limit_nano)


class OperatorPriceForm(PriceForm):
    class Meta:
        model = PriceOverride
        field_classes = PriceForm.Meta.field_classes
        labels = PriceForm.Meta.labels
        help_texts = PriceForm.Meta.help_texts
        fields = ("project", *PriceForm.Meta.fields, "ended_at")
        widgets = dict.fromkeys(RATE_FIELDS, UnfoldAdminTextInputWidget)


@admin.register(PriceOverride)
class PriceOverrideAdmin(ModelAdmin):  # type: ignore[misc]
    form = OperatorPriceForm
    list_display = ("pattern", "project", "effective_from", "ended_at", "input", "output")
    list_filter = ("provider",)
    list_select_related = ("project",)
    search_fields = ("model", "provider", "project__name", "project__slug")
    autocomplete_fields = ("project",)
    ordering = ("-effective_from",)

    @admin.display(description="USD in", ordering="input_nano")
    def input(self, price: PriceOverride) -> str:
        return decimal_usd(price.input_nano)

    @admin.display(description="USD out", ordering="output_nano")
    def output(self, price: PriceOverride) -> str:
        return decimal_usd(price.output_nano)


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
    list_display = ("id", "project", "key", "amount")
    list_select_related = ("project", "key")
    search_fields = ("id", "project__slug", "key__public_id")
    fields = ("id", "project", "key", "amount", "windows")

    @admin.display(ordering="amount_nano")
    def amount(self, reservation: Reservation) -> str:
        return format_usd(reservation.amount_nano)


@admin.register(UsageRecord)
class UsageRecordAdmin(CostAdmin):
    list_display = (
        "created_at",
        "project",
        "key",
        "requested_model",
        "outcome",
        "cost",
        "input_tokens",
        "output_tokens",
        "latency_us",
    )
    list_filter = ("outcome", "provider", "format", "estimated", "day")
    list_select_related = ("project", "key")
    search_fields = ("request_id", "requested_model", "project__slug", "key__public_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(DailyUsage)
class DailyUsageAdmin(CostAdmin):
    list_display = (
        "day",
        "project",
        "key",
        "requested_model",
        "provider",
        "requests",
        "failures",
        "input_tokens",
        "output_tokens",
        "cost",
    )
    list_filter = ("provider", "day")
    list_select_related = ("project", "key")
    search_fields = ("requested_model", "project__name", "project__slug", "key__label")
    ordering = ("-day",)


@admin.register(ArchivedUsage)
class ArchivedUsageAdmin(DailyUsageAdmin):
    pass


@admin.register(StaleDay)
class StaleDayAdmin(ReadOnlyAdmin):
    list_display = ("project", "day", "version")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "budget", "window", "threshold", "spent")
    list_filter = ("threshold", "created_at")
    list_select_related = ("budget__project", "budget__key")
    search_fields = ("budget__project__slug", "budget__key__label", "window")
    fields = ("budget", "window", "threshold", "spent", "created_at")
    ordering = ("-pk",)

    @admin.display(ordering="spent_nano")
    def spent(self, alert: Alert) -> str:
        return format_usd(alert.spent_nano)


@admin.register(AdminAlert)
class AdminAlertAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "project", "event", "subject", "title")
    list_filter = ("event", "created_at")
    list_select_related = ("project",)
    search_fields = ("project__slug", "subject", "title")
    ordering = ("-pk",)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "project",
        "recipient",
        "status",
        "attempts",
        "next_attempt_at",
        "failure_reason",
    )
    list_filter = ("status", "created_at")
    list_select_related = ("project", "member__user", "webhook")
    search_fields = ("project__slug", "member__user__email", "webhook__name", "failure_reason")
    ordering = ("-pk",)


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    list_display = ("name", "host", "project", "created_at")
    list_select_related = ("project",)
    search_fields = ("name", "project__name", "project__slug")
    fields = ("project", "name", "host", "created_at")


@admin.register(StreamCursor)
class StreamCursorAdmin(ReadOnlyAdmin):
    list_display = ("project", "is_registered", "last_id_ms", "last_id_seq")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__slug")


@admin.register(UnsentRecord)
class UnsentRecordAdmin(ReadOnlyAdmin):
    list_display = ("id", "owner")
    fields = ("id", "owner", "entry")
