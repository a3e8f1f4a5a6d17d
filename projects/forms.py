"""Form fields that several apps use: for rate limits, and for lists with one value per line."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError


def rate_limit_field(label: str, maximum: int) -> forms.IntegerField:
    return forms.IntegerField(required=False, min_value=1, max_value=maximum, label=label)


class RateLimitsForm(forms.Form):
    """The fields of `RateLimits`. Their maximum values only exist to catch typing errors."""

    rpm_limit = rate_limit_field("Requests per minute", 1_000_000)
    tpm_limit = rate_limit_field("Tokens per minute", 10_000_000_000)
    concurrency_limit = rate_limit_field("Requests at once", 100_000)


class LinesField(forms.CharField):
    """A list of values, one per line. Blank and repeated lines are ignored."""

    widget = forms.Textarea

    def __init__(self, *, max_line_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_line_length = max_line_length

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        lines = (line.strip() for line in (super().to_python(value) or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def validate(self, value: list[str]) -> None:
        super().validate("\n".join(value))
        if any(len(line) > self.max_line_length for line in value):
            raise ValidationError(f"A line may have at most {self.max_line_length} characters.")

    def run_validators(self, value: list[str]) -> None:
        super().run_validators("\n".join(value))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)
