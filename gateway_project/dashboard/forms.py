"""Forms of the dashboard: projects, a new API key with budgets, and provider credentials."""

import datetime as dt
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import transaction

from billing.form_fields import UsdField
from billing.models import Budget, Period
from keys.forms import KeyForm
from keys.models import ApiKey
from projects.forms import LinesField, RateLimitsForm
from projects.models import MAX_DATE, Project, User
from proxy.models import Credential
from proxy.models.credentials import provider_choices, validate_credential_url
from proxy.providers.base_urls import normalize_base_url
from proxy.providers.catalog import PROVIDERS

PRICED_MODELS_HELP = "A key with such a budget can call only models with a known price."
MAX_MODEL_NAME_LENGTH = 200
MAX_ORIGIN_LENGTH = 260
MAX_SECRET_LENGTH = 2000
# The secret is sent in an HTTP header.
visible_ascii = RegexValidator(r"^[\x21-\x7e]*$", "Enter the API key without spaces and special characters.")


@lru_cache(maxsize=1)
def timezone_choices() -> list[tuple[str, str]]:
    """Return UTC, then the time zones with a region and a city. Omit other names, such as `Japan`."""
    names = sorted(
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/"))
    )
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]


class ProjectForm(forms.ModelForm[Project]):
    class Meta:
        model = Project
        fields: tuple[str, ...] = ("name", "timezone")
        widgets = {"timezone": forms.Select}
        labels = {"timezone": "Time zone"}
        help_texts = {"name": "A team, a product or an environment that shares keys and budgets."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices, current = timezone_choices(), self.instance.timezone
        if current not in dict(choices):
            choices = [(current, current), *choices]
        self.fields["timezone"].widget = forms.Select({"data-guess-timezone": ""}, choices)
        self.fields["timezone"].help_text = "Budgets and reports use the days and months of this time zone."


class ProjectSettingsForm(ProjectForm, RateLimitsForm):
    allowed_origins = LinesField(
        max_line_length=MAX_ORIGIN_LENGTH,
        required=False,
        label="Origins",
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "https://app.example.org"}),
        help_text="One per line. Web pages of these sites may call the gateway with keys of this project. "
        "Every visitor of such a page can see the key that it uses.",
    )

    class Meta(ProjectForm.Meta):
        fields = (
            *("name", "timezone", "accepts_provider_keys", "rpm_limit", "tpm_limit", "concurrency_limit"),
            *("caches_responses", "cache_ttl_s", "allowed_origins"),
        )
        labels = {
            **ProjectForm.Meta.labels,
            "caches_responses": "Cache responses by default",
            "cache_ttl_s": "Lifetime in seconds",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["timezone"].help_text += " A change does not move existing records to another day."
        self.fields["cache_ttl_s"].required = False

    def clean_allowed_origins(self) -> list[str]:
        entered: list[str] = self.cleaned_data["allowed_origins"]
        return [origin.lower().rstrip("/") for origin in entered]

    def clean_cache_ttl_s(self) -> int:
        """Return the entered lifetime; without one, the stored lifetime stays."""
        entered: int | None = self.cleaned_data["cache_ttl_s"]
        return self.instance.cache_ttl_s if entered is None else entered


class BudgetedKeyForm(KeyForm):
    """The form that creates an API key, optionally with a daily and a monthly budget."""

    day_budget = UsdField(
        required=False,
        label="Daily budget in USD",
        help_text=f"A request that could exceed the budget is denied. {PRICED_MODELS_HELP}",
    )
    month_budget = UsdField(
        required=False,
        label="Monthly budget in USD",
        help_text=f"Per calendar month. Empty: no limit. {PRICED_MODELS_HELP}",
    )

    def clean_expires_on(self) -> dt.date | None:
        day = super().clean_expires_on()
        if day and day > MAX_DATE:
            raise ValidationError(
                f"Choose a day until {MAX_DATE.isoformat()}, or leave it empty for a key without expiry."
            )
        return day

    @transaction.atomic
    def issue(self, created_by: User | None) -> tuple[ApiKey, str]:
        """Create the key and its budgets, which alert the creator. Return the key and its text."""
        key, token = super().issue(created_by)
        for period in (Period.DAY, Period.MONTH):
            limit: int | None = self.cleaned_data[f"{period.value}_budget"]
            if limit is not None:
                budget = Budget.objects.create(project=key.project, key=key, period=period, limit_nano=limit)
                if created_by is not None:
                    budget.alert_members.set(key.project.memberships.filter(user=created_by))
        return key, token


def provider_options() -> list[tuple[str, str]]:
    return [("", "Choose a provider"), *provider_choices()]


class CredentialForm(forms.ModelForm[Credential]):
    provider = forms.ChoiceField(choices=provider_options)
    model_names = LinesField(
        max_line_length=MAX_MODEL_NAME_LENGTH,
        required=False,
        label="Models",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One name per line. Clients can call these models without the prefix.",
    )
    secret = forms.CharField(
        required=False,
        label="API key",
        max_length=MAX_SECRET_LENGTH,
        validators=[visible_ascii],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="It is stored encrypted and not shown again.",
    )

    class Meta:
        model = Credential
        fields = ("slug", "provider", "base_url", "secret", "model_names")
        error_messages = {"slug": {"invalid": "Use only letters, digits, hyphens and underscores."}}

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project
        self.saved = Credential.objects.get(pk=self.instance.pk) if self.instance.pk else None
        if self.saved and self.saved.sealed_secret:
            suffix = self.saved.secret_suffix or "…"
            self.fields["secret"].help_text = f"Leave it empty to keep the stored key, ending in {suffix}."

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        others = Credential.objects.for_project(self.instance.project).exclude(pk=self.instance.pk)
        if others.filter(slug=slug).exists():
            raise ValidationError("This project already has a credential with this name.")
        return slug

    def clean_base_url(self) -> str:
        """Validate the URL here, before `clean` compares it with the stored one."""
        url: str = self.cleaned_data["base_url"]
        if url:
            validate_credential_url(url)
        return url

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.sends_saved_secret_to_new_url(cleaned):
            self.add_error(
                "secret",
                "Enter the API key again. The stored key is sent only to the URL for which it was stored.",
            )
        return cleaned

    def sends_saved_secret_to_new_url(self, cleaned: dict[str, Any]) -> bool:
        """Return whether a change would send the stored secret to another URL or provider."""
        saved = self.saved
        if saved is None or not saved.sealed_secret or cleaned.get("secret"):
            return False
        provider, url = cleaned.get("provider"), cleaned.get("base_url")
        if provider != saved.provider or url is None:
            return True
        return normalize_base_url(PROVIDERS[provider], url) != saved.base_url

    def save(self, commit: bool = True) -> Credential:
        if self.cleaned_data["secret"]:
            self.instance.set_secret(self.cleaned_data["secret"])
        return super().save(commit)
