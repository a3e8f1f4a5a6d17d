"""The form that creates and changes a budget."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q

from billing.form_fields import UsdField
from billing.models import Budget, Webhook
from billing.models.budgets import default_thresholds, validate_thresholds
from keys.models import ApiKey
from projects.models import Membership, Project, User


class ThresholdsField(forms.CharField):
    """A list of percentages in one text field: `50, 80, 100`."""

    def to_python(self, value: Any) -> Any:
        numbers = re.split(r"[\s,;%]+", super().to_python(value) or "")
        try:
            return [int(number) for number in numbers if number]
        except ValueError:
            raise ValidationError(
                "Enter whole numbers of percent, separated by commas, such as 50, 80, 100."
            ) from None

    def validate(self, value: Any) -> None:
        """Accept an empty list, which means that the budget has no alerts at thresholds."""

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
    """The fields of a budget that must be parsed. The dashboard and the admin share them."""

    limit_nano = UsdField(label="Limit in USD", help_text="0 denies every request that has a cost.")
    thresholds = ThresholdsField(
        required=False,
        label="Alert at",
        help_text="Percent of the limit. Each alerts once per period. Empty: no alerts.",
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

    def __init__(self, *args: Any, project: Project, user: User | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project
        period_help = f"Days, weeks and months start at midnight in {project.timezone}, weeks on Monday."
        self.fields["period"].help_text = period_help
        self.limit_choices_to(project)
        if self.instance.pk:
            # The ledger has counted amounts for this key and this period, so neither can change.
            self.fields["key"].disabled = self.fields["period"].disabled = True
        else:
            self.initial["thresholds"] = default_thresholds()
            self.initial["alert_members"] = project.memberships.filter(user=user)

    def limit_choices_to(self, project: Project) -> None:
        """Offer the keys, members and webhooks of this project only."""
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
        if {"key", "period", "mode"} <= set(cleaned) and self.has_duplicate(
            cleaned["key"], cleaned["period"], cleaned["mode"]
        ):
            self.add_error(None, "A budget with this period and mode already exists. Change that budget.")
        return cleaned

    def has_duplicate(self, key: ApiKey | None, period: str, mode: str) -> bool:
        same_budget = Budget.objects.filter(project=self.instance.project, key=key, period=period, mode=mode)
        return same_budget.exclude(pk=self.instance.pk).exists()
