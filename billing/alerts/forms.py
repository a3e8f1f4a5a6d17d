"""Form of a webhook."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from billing.models import Webhook
from projects.models import Project

MAX_WEBHOOKS = 10


class WebhookForm(forms.ModelForm[Webhook]):
    class Meta:
        model = Webhook
        fields = ("name", "url")
        help_texts = {
            "url": "Signed messages are posted here. Use https: what they say is signed, not encrypted."
        }
        widgets = {
            "url": forms.TextInput(
                attrs={"placeholder": "https://example.org/hooks/budgets", "inputmode": "url"}
            )
        }

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Webhook.objects.for_project(self.instance.project).filter(name=name).exists():
            raise ValidationError("This project has a webhook of that name already.")
        return name

    def clean(self) -> dict[str, Any]:
        if Webhook.objects.for_project(self.instance.project).count() >= MAX_WEBHOOKS:
            raise ValidationError(f"A project can have at most {MAX_WEBHOOKS} webhooks.")
        return super().clean() or {}

    def create_with_secret(self) -> tuple[Webhook, str]:
        """The new webhook and its signing secret."""
        secret = self.instance.new_secret()
        return self.save(), secret
