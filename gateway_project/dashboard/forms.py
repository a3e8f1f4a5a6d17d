"""Forms of the pages: projects, a new API key with its budgets, and provider credentials."""

import datetime as dt
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import transaction

from billing.budgets.forms import UsdField
from billing.models import Budget, Period
from keys.forms import KeyForm
from keys.models import ApiKey
from projects.forms import LinesField, RateLimitsForm
from projects.models import MAX_DATE, Project, User
from proxy.models import Credential

PRICED_MODELS_HELP = "A key with a budget can call only models whose price is known."
MAX_MODEL_NAME_LENGTH = 200
MAX_SECRET_LENGTH = 2000
# The secret travels in a header.
visible_ascii = RegexValidator(r"^[\x21-\x7e]*$", "An API key has no spaces and no special characters.")


@lru_cache(maxsize=1)
def timezone_choices() -> list[tuple[str, str]]:
    """Regions and cities, and UTC first; the old aliases without a region are left out."""
    names = sorted(
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/"))
    )
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]


class ProjectForm(forms.ModelForm[Project]):
    class Meta:
        model = Project
        fields: tuple[str, ...] = ("name", "timezone")
        widgets = {"timezone": forms.Select}
        help_texts = {"name": "A team, a product or an environment: whatever shares keys and budgets."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = timezone_choices()
        current = (self.instance.timezone, self.instance.timezone)
        self.fields["timezone"].widget = forms.Select(
            choices=known if current[0] in dict(known) else [current, *known]
        )
        self.fields["timezone"].help_text = "Days and months of budgets and reports begin here."


class ProjectSettingsForm(ProjectForm, RateLimitsForm):
    class Meta(ProjectForm.Meta):
        fields = ("name", "timezone", "rpm_limit", "tpm_limit", "concurrency_limit")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "timezone"
        ].help_text += " A change holds from now on: days that are over keep their records."


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


class CredentialForm(forms.ModelForm[Credential]):
    model_names = LinesField(
        max_line_length=MAX_MODEL_NAME_LENGTH,
        required=False,
        label="Models",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One name per line: models that are reached without the prefix.",
    )
    secret = forms.CharField(
        required=False,
        label="API key",
        max_length=MAX_SECRET_LENGTH,
        validators=[visible_ascii],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted and not shown again.",
    )

    class Meta:
        model = Credential
        fields = ("slug", "provider", "base_url", "secret", "model_names")

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project
        self.saved = Credential.objects.get(pk=self.instance.pk) if self.instance.pk else None
        if self.saved and self.saved.sealed_secret:
            self.fields[
                "secret"
            ].help_text = f"Stored, ending in {self.saved.secret_suffix or '…'}. Leave it empty to keep it."

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if (
            Credential.objects.for_project(self.instance.project)
            .filter(slug=slug)
            .exclude(pk=self.instance.pk)
            .exists()
        ):
            raise ValidationError("This project has a credential of that name already.")
        return slug

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.sends_saved_secret_to_new_url(cleaned):
            self.add_error(
                "secret",
                "Enter the API key again: the stored one is sent only to the address it was stored for.",
            )
        return cleaned

    def sends_saved_secret_to_new_url(self, cleaned: dict[str, Any]) -> bool:
        if self.saved is None or not self.saved.sealed_secret or cleaned.get("secret"):
            return False
        return (cleaned.get("provider"), cleaned.get("base_url")) != (
            self.saved.provider,
            self.saved.base_url,
        )

    def save(self, commit: bool = True) -> Credential:
        if self.cleaned_data["secret"]:
            self.instance.set_secret(self.cleaned_data["secret"])
        return super().save(commit)
