"""The form with the settings of a project's prompt log."""

from django import forms
from django.core.exceptions import ValidationError

from projects.forms import LinesField
from proxy.models import PromptLogMode, PromptLogSettings, RedactionRule
from proxy.models.prompt_log import MAX_RETENTION_DAYS
from proxy.prompt_log.patterns import MAX_PATTERN_LENGTH, MAX_PATTERNS, InvalidPattern, check_pattern


class PromptLogForm(forms.ModelForm[PromptLogSettings]):
    mode = forms.ChoiceField(
        choices=PromptLogMode.choices,
        widget=forms.RadioSelect,
        label="Store of each prompt and response",
        help_text="A request with the header <code>x-gateway-log: off</code> is never stored.",
    )
    retention_days = forms.IntegerField(
        min_value=1,
        max_value=MAX_RETENTION_DAYS,
        label="Delete after (days)",
        help_text="Usage and cost stay.",
    )
    rules = forms.MultipleChoiceField(
        choices=RedactionRule.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Redact",
        help_text="These are replaced before anything is stored.",
    )
    patterns = LinesField(
        max_line_length=MAX_PATTERN_LENGTH,
        required=False,
        label="Also redact",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One regular expression per line, such as <code>EMP-\\d{4,8}</code>. Repetitions need an "
        "upper limit.",
    )

    class Meta:
        model = PromptLogSettings
        fields = ("mode", "retention_days", "rules", "patterns")

    def clean_patterns(self) -> list[str]:
        patterns: list[str] = self.cleaned_data["patterns"]
        if len(patterns) > MAX_PATTERNS:
            raise ValidationError(f"At most {MAX_PATTERNS} expressions are possible.")
        if problems := [problem for pattern in patterns if (problem := problem_of(pattern))]:
            raise ValidationError(problems)
        return patterns


def problem_of(pattern: str) -> str:
    """Return why an expression cannot be used; empty if it can."""
    try:
        check_pattern(pattern)
    except InvalidPattern as error:
        return f"{pattern[:60]}: {error}"
    return ""
