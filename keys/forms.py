"""Forms to create and to edit an API key."""

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from keys.models import AccessToken, ApiKey
from keys.scopes import ADMIN, ALL, MANAGEMENT_SCOPES, NOT_IN_ALL
from projects.forms import LinesField, RateLimitsForm
from projects.models import MAX_DATE, Project, Role, User

MODEL_NAME_LENGTH = 200

SCOPE_LABELS = {
    "inference": ("Call models", "Chat, responses and embeddings in every format, and the list of models."),
    "post:/openai/v1/chat/completions": (
        "Chat only",
        "Chat completions at each of their URLs, nothing else.",
    ),
    "post:/openai/v1/responses": (
        "Responses only",
        "OpenAI’s Responses API: create, compact, cancel and count tokens, nothing else.",
    ),
    "get:/openai/v1/responses": (
        "Retrieve responses only",
        "Responses of this project that a provider stores, and their input items.",
    ),
    "delete:/openai/v1/responses": (
        "Delete responses only",
        "Responses of this project that a provider stores.",
    ),
    "post:/anthropic/v1/messages": (
        "Messages only",
        "Anthropic’s Messages API with token counting, nothing else.",
    ),
    "post:/gemini/v1beta/models:generateContent": (
        "Gemini only",
        "Gemini’s generateContent with streaming and token counting, nothing else.",
    ),
    "post:/openai/v1/completions": ("Legacy completions only", "OpenAI’s text completions, nothing else."),
    "post:/openai/v1/embeddings": (
        "Embeddings only",
        "Embeddings at each of their URLs, nothing else.",
    ),
    "post:/gemini/v1beta/models:embedContent": (
        "Gemini embeddings only",
        "embedContent and batchEmbedContents, nothing else.",
    ),
    "get:/openai/v1/models": ("List models only", "The models that this key may use."),
    "usage:read": ("Read usage", "Spending and usage of this project over the REST API."),
    "logs:read": (
        "Read logs",
        "Requests of all keys of this project, with prompts and responses. Every key can read its own.",
    ),
    "keys:manage": ("Manage keys", "Create and revoke API keys of this project over the REST API."),
    "project:manage": (
        "Manage the project",
        "Change credentials, routes, budgets and settings over the REST API.",
    ),
    ALL: ("What applications need", "Call and list models in every way, and read usage."),
    ADMIN: ("Everything", "All of the above, and scopes that are added later."),
}
CHOICE_HTML = (
    '<span class="option__body"><span class="option__name">{}</span>'
    '<span class="option__help">{}</span></span>'
)
ADMIN_SCOPES = NOT_IN_ALL


def scope_choice(name: str, explanation: str) -> SafeString:
    return format_html(CHOICE_HTML, name, explanation)


def scope_choices_for(role: Role) -> list[tuple[str, SafeString]]:
    """Return the choices of scopes that a person with this role may grant to a key."""
    return [
        (scope, scope_choice(*text))
        for scope, text in SCOPE_LABELS.items()
        if role >= Role.ADMIN or scope not in ADMIN_SCOPES
    ]


def models_field() -> LinesField:
    return LinesField(
        max_line_length=MODEL_NAME_LENGTH,
        required=False,
        help_text="One name per line. Empty: every model of the project.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class KeyForm(RateLimitsForm):
    label = forms.CharField(label="Name", max_length=120, help_text="Who or what uses this key.")
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, initial=["inference"], help_text="What the key may do."
    )
    allowed_models = models_field()
    expires_on = forms.DateField(
        required=False, label="Last day", widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, *args: Any, project: Project, role: Role, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)
        scopes.choices = scope_choices_for(role)
        self.fields[
            "expires_on"
        ].help_text = (
            f"The key works until the end of this day in {project.timezone}. Empty: it does not expire."
        )

    def clean_expires_on(self) -> dt.date | None:
        day: dt.date | None = self.cleaned_data["expires_on"]
        if day and day < self.project.today():
            raise ValidationError("This day has passed. Choose today or a later day.")
        return day

    @property
    def expires_at(self) -> dt.datetime | None:
        """The time at which the key of this valid form expires."""
        expiry_date: dt.date | None = self.cleaned_data["expires_on"]
        return self.project.end_of_day(expiry_date) if expiry_date else None

    def issue(self, created_by: User | None) -> tuple[ApiKey, str]:
        """Create the key. Return it with its text, which is not stored."""
        return ApiKey.objects.issue(
            self.project,
            self.cleaned_data["label"],
            scopes=self.cleaned_data["scopes"],
            allowed_models=self.cleaned_data["allowed_models"],
            **{field: self.cleaned_data[field] for field in RateLimitsForm.base_fields},
            expires_at=self.expires_at,
            created_by=created_by,
        )


class AccessTokenForm(forms.Form):
    """Creates a personal access token."""

    name = forms.CharField(max_length=120, help_text="Who or what uses this token.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope_choice(*SCOPE_LABELS[scope])) for scope in MANAGEMENT_SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text="What the token may do, as far as your role in a project allows it.",
    )
    expires_on = forms.DateField(
        required=False,
        label="Last day",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The token works until the end of this day in UTC. Empty: it does not expire.",
    )

    def clean_expires_on(self) -> dt.date | None:
        day: dt.date | None = self.cleaned_data["expires_on"]
        if day and not timezone.now().date() <= day <= MAX_DATE:
            raise ValidationError(f"Choose a day from today until {MAX_DATE.isoformat()}.")
        return day

    @property
    def expires_at(self) -> dt.datetime | None:
        """The time at which the token of this valid form expires."""
        day: dt.date | None = self.cleaned_data["expires_on"]
        if day is None:
            return None
        return dt.datetime.combine(day + dt.timedelta(days=1), dt.time.min, tzinfo=dt.UTC)

    def issue(self, user: User) -> tuple[AccessToken, str]:
        """Create the token. Return it with its text, which is not stored."""
        fields = {"scopes": self.cleaned_data["scopes"], "expires_at": self.expires_at}
        return AccessToken.objects.issue(user, self.cleaned_data["name"], **fields)


class KeyEditForm(forms.ModelForm[ApiKey], RateLimitsForm):
    """Edits an existing key. Its scopes cannot be changed."""

    allowed_models = models_field()

    class Meta:
        model = ApiKey
        fields = ("label", "allowed_models", *RateLimitsForm.base_fields)

    def save(self, commit: bool = True) -> ApiKey:
        """Save only the columns of this form, so that a concurrent revocation is not undone."""
        self.instance.save(update_fields=self._meta.fields)
        return self.instance
