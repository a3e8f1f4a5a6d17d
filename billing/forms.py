"""The form of a new API key together with its budgets."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from billing.models import Budget, Period
from billing.money import InvalidAmount, decimal_usd, parse_usd
from keys.forms import KeyForm
from keys.models import ApiKey
from projects.models import User


class UsdField(forms.CharField):
    """Dollars as people write them; cleaned to nano-USD, None where empty."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "placeholder": "25.00"})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if text in self.empty_values:
            return None
        try:
            return parse_usd(str(text).replace(",", ""))
        except InvalidAmount as error:
            raise ValidationError(str(error)) from None

    def run_validators(self, value: Any) -> None:
        """The parser has checked all there is to check; the inherited validators are for text."""

    def prepare_value(self, value: Any) -> Any:
        return decimal_usd(value) if isinstance(value, int) else value


class BudgetedKeyForm(KeyForm):
    day_budget = UsdField(required=False, label="Daily budget in USD", help_text="Requests are refused before they could exceed it.")
    month_budget = UsdField(required=False, label="Monthly budget in USD", help_text="By calendar month. Empty: no limit of its own.")

    @transaction.atomic
    def mint(self, created_by: User) -> tuple[ApiKey, str]:
        key, token = super().mint(created_by)
        for period in Period:
            limit: int | None = self.cleaned_data[f"{period.value}_budget"]
            if limit is not None:
                Budget.objects.create(project=key.project, key=key, period=period, limit_nano=limit)
        return key, token
