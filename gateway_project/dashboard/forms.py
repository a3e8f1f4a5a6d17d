"""The form of a provider credential."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from projects.forms import LinesField
from projects.models import Project
from proxy.models import Credential

MAX_MODEL_NAME_LENGTH = 200
MAX_SECRET_LENGTH = 2000
# The secret travels in a header.
visible_ascii = RegexValidator(r"^[\x21-\x7e]*$", "An API key has no spaces and no special characters.")


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
