"""The form field for an amount in US dollars."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from billing.money import InvalidAmount, decimal_usd, parse_usd

USD_PATTERN = re.compile(r"\$?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?", re.ASCII)
"""Commas are only allowed between thousands, because `1,5` could mean 1.5 or 15."""


class UsdField(forms.CharField):
    """An amount in US dollars: `1,250.50`. The cleaned value is in nano-USD, or None if it is empty."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "placeholder": "25.00"})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        if not USD_PATTERN.fullmatch(text):
            raise ValidationError("Enter US dollars as 1250.50 or 1,250.50, without + or -.")
        try:
            return parse_usd(text.replace(",", ""))
        except InvalidAmount as error:
            raise ValidationError(str(error)) from None

    def run_validators(self, value: Any) -> None:
        """Skip the inherited validators, which expect text. `parse_usd` has already validated the amount."""

    def prepare_value(self, value: Any) -> Any:
        return decimal_usd(value) if isinstance(value, int) else value
