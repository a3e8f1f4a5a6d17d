"""The form of a new API key together with its budgets."""

import datetime as dt
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from billing.models import Budget, Period
from billing.money import InvalidAmount, decimal_usd, parse_usd
from keys.forms import KeyForm
from keys.models import ApiKey
from projects.models import LAST_DAY, User

DOLLARS = re.compile(r"\$?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?", re.ASCII)
"""Commas between thousands only: `1,5` may mean one and a half or fifteen."""
PRICED_ONLY = "A key with a budget can call only models whose price is known."


class UsdField(forms.CharField):
    """Dollars as people write them; cleaned to nano-USD, None where empty."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "placeholder": "25.00"})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        if not DOLLARS.fullmatch(text):
            raise ValidationError("Write US dollars as 1250.50 or 1,250.50.")
        try:
            return parse_usd(text.replace(",", ""))
        except InvalidAmount as error:
            raise ValidationError(str(error)) from None

    def run_validators(self, value: Any) -> None:
        """The parser has checked all there is to check; the inherited validators are for text."""

    def prepare_value(self, value: Any) -> Any:
        return decimal_usd(value) if isinstance(value, int) else value


class BudgetedKeyForm(KeyForm):
    day_budget = UsdField(
        required=False, label="Daily budget in USD", help_text=f"Requests are refused before they could exceed it. {PRICED_ONLY}"
    )
    month_budget = UsdField(
        required=False, label="Monthly budget in USD", help_text=f"By calendar month. Empty: no limit of its own. {PRICED_ONLY}"
    )

    def clean_expires_on(self) -> dt.date | None:
        day = super().clean_expires_on()
        if day and day > LAST_DAY:
            raise ValidationError(f"The last day can be {LAST_DAY.isoformat()}. Leave it empty for a key that does not expire.")
        return day

    @transaction.atomic
    def mint(self, created_by: User) -> tuple[ApiKey, str]:
        key, token = super().mint(created_by)
        for period in Period:
            limit: int | None = self.cleaned_data[f"{period.value}_budget"]
            if limit is not None:
                Budget.objects.create(project=key.project, key=key, period=period, limit_nano=limit)
        return key, token
