"""The form of a budget, and the fields that forms about money share."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q

from billing.models import Budget, Mode, Webhook
from billing.models.budgets import default_thresholds, validate_thresholds
from billing.money import InvalidAmount, decimal_usd, parse_usd
from keys.models import ApiKey
from projects.models import Membership, Project, User

USD_PATTERN = re.compile(r"\$?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?", re.ASCII)
"""Commas between thousands only: `1,5` may mean one and a half or fifteen."""
MAX_WEBHOOKS = 10


class UsdField(forms.CharField):
    """Dollars as people write them; cleaned to nano-USD, None where empty."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "placeholder": "25.00"})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        if not USD_PATTERN.fullmatch(text):
            raise ValidationError("Write US dollars as 1250.50 or 1,250.50, without a sign.")
        try:
            return parse_usd(text.replace(",", ""))
        except InvalidAmount as error:
            raise ValidationError(str(error)) from None

    def run_validators(self, value: Any) -> None:
        """The parser has checked all there is to check; the inherited validators are for text."""

    def prepare_value(self, value: Any) -> Any:
        return decimal_usd(value) if isinstance(value, int) else value


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


class BudgetForm(forms.ModelForm[Budget]):
    limit_nano = UsdField(label="Limit in USD", help_text="0 refuses every request that costs something.")
    thresholds = ThresholdsField(
        required=False,
        label="Alert at",
        help_text="Percent of the limit, once each in every period. Empty: no alerts.",
    )

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


class WebhookForm(forms.ModelForm[Webhook]):
    class Meta:
        model = Webhook
        fields = ("name", "url")
        help_texts = {
            "url": "Signed messages are posted here. Use https: what they say is signed, not encrypted."
        }
        widgets = {
            "url": forms.TextInput(
                attrs={"placeholder": "https://example.org/hooks/budgets", "inputmode": "url"}
            )
        }

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Webhook.objects.for_project(self.instance.project).filter(name=name).exists():
            raise ValidationError("This project has a webhook of that name already.")
        return name

    def clean(self) -> dict[str, Any]:
        if Webhook.objects.for_project(self.instance.project).count() >= MAX_WEBHOOKS:
            raise ValidationError(f"A project can have at most {MAX_WEBHOOKS} webhooks.")
        return super().clean() or {}

    def create_with_secret(self) -> tuple[Webhook, str]:
        """The new webhook and its signing secret."""
        secret = self.instance.new_secret()
        return self.save(), secret
