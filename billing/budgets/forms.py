"""Forms that set what may be spent: budgets, and a new API key together with its own."""

import datetime as dt
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from billing.form_fields import UsdField
from billing.models import Budget, Mode, Period, Webhook
from billing.models.budgets import default_thresholds, validate_thresholds
from keys.forms import KeyForm
from keys.models import ApiKey
from projects.models import MAX_DATE, Membership, Project, User

PRICED_MODELS_HELP = "A key with a budget can call only models whose price is known."


class BudgetedKeyForm(KeyForm):
    day_budget = UsdField(
        required=False,
        label="Daily budget in USD",
        help_text=f"Requests are refused before they could exceed it. {PRICED_MODELS_HELP}",
    )
    month_budget = UsdField(
        required=False,
        label="Monthly budget in USD",
        help_text=f"By calendar month. Empty: no limit of its own. {PRICED_MODELS_HELP}",
    )

    def clean_expires_on(self) -> dt.date | None:
        day = super().clean_expires_on()
        if day and day > MAX_DATE:
            raise ValidationError(
                f"The last day can be {MAX_DATE.isoformat()}. Leave it empty for a key that does not expire."
            )
        return day

    @transaction.atomic
    def issue(self, created_by: User) -> tuple[ApiKey, str]:
        """The new key and its text. Who makes it hears of its budgets."""
        key, token = super().issue(created_by)
        for period in (Period.DAY, Period.MONTH):
            limit: int | None = self.cleaned_data[f"{period.value}_budget"]
            if limit is not None:
                budget = Budget.objects.create(project=key.project, key=key, period=period, limit_nano=limit)
                budget.alert_members.set(key.project.memberships.filter(user=created_by))
        return key, token


class ThresholdsField(forms.CharField):
    """Percentages as people list them: `50, 80, 100`."""

    def to_python(self, value: Any) -> Any:
        words = re.split(r"[\s,;%]+", super().to_python(value) or "")
        try:
            return [int(word) for word in words if word]
        except ValueError:
            raise ValidationError(
                "Write whole numbers of percent with commas between them, such as 50, 80, 100."
            ) from None

    def validate(self, value: Any) -> None:
        """An empty list is one without alerts."""

    def run_validators(self, value: Any) -> None:
        validate_thresholds(value)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class MemberChoiceField(forms.ModelMultipleChoiceField[Membership]):
    def label_from_instance(self, member: Membership) -> str:
        return member.user.email


class BudgetFieldsForm(forms.ModelForm[Budget]):
    """The fields of a budget that are written as text."""

    limit_nano = UsdField(label="Limit in USD", help_text="0 refuses every request that costs something.")
    thresholds = ThresholdsField(
        required=False,
        label="Alert at",
        help_text="Percent of the limit, once each in every period. Empty: no alerts.",
    )


class BudgetForm(BudgetFieldsForm):
    class Meta:
        model = Budget
        fields = ("key", "period", "limit_nano", "mode", "thresholds", "alert_members", "alert_webhooks")
        labels = {
            "key": "What it limits",
            "mode": "When it is used up",
            "alert_members": "E-mail to",
            "alert_webhooks": "Webhooks",
        }
        help_texts = {"key": None}
        field_classes = {"alert_members": MemberChoiceField}
        widgets = {
            "alert_members": forms.CheckboxSelectMultiple,
            "alert_webhooks": forms.CheckboxSelectMultiple,
        }

    def __init__(self, *args: Any, project: Project, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project
        self.fields[
            "period"
        ].help_text = f"Days, weeks and months of {project.timezone}; weeks begin on Monday."
        self.limit_choices_to(project)
        if self.instance.pk:
            # What was spent belongs to the key and the period that it was spent in.
            self.fields["key"].disabled = self.fields["period"].disabled = True
        else:
            self.initial["thresholds"] = default_thresholds()
            self.initial["alert_members"] = project.memberships.filter(user=user)

    def limit_choices_to(self, project: Project) -> None:
        """The project's own keys, members and webhooks, and nobody else's."""
        keys, members, webhooks = (self.fields[name] for name in ("key", "alert_members", "alert_webhooks"))
        assert isinstance(keys, forms.ModelChoiceField)
        assert isinstance(members, forms.ModelMultipleChoiceField)
        assert isinstance(webhooks, forms.ModelMultipleChoiceField)
        keys.queryset = ApiKey.objects.for_project(project).filter(
            Q(revoked_at=None) | Q(pk=self.instance.key_id)
        )
        keys.empty_label = "Whole project"
        members.queryset = project.memberships.select_related("user").order_by("user__email")
        webhooks.queryset = Webhook.objects.for_project(project)
        if not webhooks.queryset.exists():
            del self.fields["alert_webhooks"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("limit_nano") == 0 and cleaned.get("mode") not in (None, Mode.HARD):
            self.add_error("limit_nano", "A limit of 0 makes sense only for a budget that refuses requests.")
        if {"key", "period", "mode"} <= set(cleaned) and self.has_duplicate(
            cleaned["key"], cleaned["period"], cleaned["mode"]
        ):
            self.add_error(None, "There is a budget of this period and kind already. Change that one.")
        return cleaned

    def has_duplicate(self, key: ApiKey | None, period: str, mode: str) -> bool:
        same_budget = Budget.objects.filter(project=self.instance.project, key=key, period=period, mode=mode)
        return same_budget.exclude(pk=self.instance.pk).exists()
