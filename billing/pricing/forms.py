"""The form of a price override."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from billing.form_fields import UsdField
from billing.models import PriceOverride
from billing.money import decimal_usd
from projects.models import MAX_DATE, Project

RATE_FIELDS = (
    "input_nano",
    "output_nano",
    "cache_read_nano",
    "cache_write_5m_nano",
    "cache_write_1h_nano",
    "cache_write_12h_nano",
    "reasoning_nano",
    "request_nano",
)
OPTIONAL_RATE_FIELDS = RATE_FIELDS[2:]
PLACEHOLDERS = {"input_nano": {"placeholder": "0.15"}, "output_nano": {"placeholder": "0.60"}}
LABELS = {
    "input_nano": "Input",
    "output_nano": "Output",
    "cache_read_nano": "Cached input",
    "cache_write_5m_nano": "Input written to a 5- or 30-minute cache",
    "cache_write_1h_nano": "Input written to a 1-hour cache",
    "cache_write_12h_nano": "Input written to a 12-hour cache",
    "reasoning_nano": "Reasoning",
    "request_nano": "Fee per request",
}
HELP_TEXTS = {
    "input_nano": "US dollars per million tokens. 0: free.",
    "output_nano": "US dollars per million tokens. 0: free.",
    "reasoning_nano": "Empty: same as other output.",
    "request_nano": "US dollars.",
}


class RateField(UsdField):
    """An amount in US dollars for an integer column. The validators of the column check its limits."""

    def __init__(self, *, min_value: int | None = None, max_value: int | None = None, **options: Any) -> None:
        super().__init__(**options)


class ToolFeesField(forms.CharField):
    """Fees in US dollars per call, one kind of tool per line: `web_search 0.01`."""

    widget = forms.Textarea(attrs={"rows": 3, "placeholder": "web_search 0.01"})

    def to_python(self, value: Any) -> Any:
        fees = {}
        for line in (super().to_python(value) or "").splitlines():
            if line.strip():
                kind, _, amount = line.strip().replace("=", " ").partition(" ")
                fees[kind] = self.parse_fee(kind, amount)
        return fees

    def parse_fee(self, kind: str, amount: str) -> int:
        nano: int | None = UsdField(required=False).to_python(amount)
        if nano is None:
            raise ValidationError(f"Enter the fee of {kind} after its name, such as web_search 0.01.")
        return nano

    def validate(self, value: Any) -> None:
        """Accept an empty list of fees."""

    def run_validators(self, value: Any) -> None:
        """Skip the inherited validators. The validators of the model's field check the value."""

    def prepare_value(self, value: Any) -> Any:
        return (
            "\n".join(f"{kind} {decimal_usd(nano)}" for kind, nano in value.items())
            if isinstance(value, dict)
            else value
        )

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class PriceForm(forms.ModelForm[PriceOverride]):
    tool_fees = ToolFeesField(
        required=False,
        label="Fees of the provider’s tools",
        help_text="US dollars per call, one kind of tool per line, such as web_search 0.01. Others are free.",
    )

    class Meta:
        model = PriceOverride
        fields = ("provider", "model", "effective_from", *RATE_FIELDS, "tool_fees")
        field_classes = dict.fromkeys(RATE_FIELDS, RateField)
        labels = LABELS
        help_texts = dict.fromkeys(OPTIONAL_RATE_FIELDS, "Empty: same as input.") | HELP_TEXTS
        widgets = {
            "effective_from": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
            "model": forms.TextInput(
                attrs={
                    "placeholder": "llama-3.3-70b or llama-*",
                    "autocapitalize": "none",
                    "spellcheck": "false",
                }
            ),
            "provider": forms.TextInput(
                attrs={"placeholder": "openai", "autocapitalize": "none", "spellcheck": "false"}
            ),
        } | {
            name: forms.TextInput(attrs={"inputmode": "decimal"} | PLACEHOLDERS.get(name, {}))
            for name in RATE_FIELDS
        }

    def __init__(self, *args: Any, project: Project | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if project is not None:
            self.instance.project = project
        effective_from = self.fields["effective_from"]
        effective_from.required = self.fields["request_nano"].required = False
        effective_from.label, effective_from.initial = "Effective from", None
        effective_from.help_text = f"In {project.timezone}. Empty: now." if project else "In UTC. Empty: now."
        self.fields["request_nano"].initial = None

    def clean_provider(self) -> str:
        return str(self.cleaned_data["provider"]).strip()

    def clean_model(self) -> str:
        model = re.sub(r"\s", "", self.cleaned_data["model"])
        if not model.isprintable():
            raise ValidationError("The model name contains unprintable characters.")
        return model

    def clean_effective_from(self) -> Any:
        effective_from = (
            self.cleaned_data["effective_from"]
            or PriceOverride._meta.get_field("effective_from").get_default()
        )
        if effective_from.date() > MAX_DATE:
            raise ValidationError(f"Choose a date until {MAX_DATE.isoformat()}.")
        return effective_from

    def clean_request_nano(self) -> int:
        return self.cleaned_data["request_nano"] or 0
