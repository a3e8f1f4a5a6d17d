"""The form that creates a webhook."""

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
            "url": (
                "The gateway posts signed messages to this URL. Use https: the signature does not encrypt "
                "them."
            )
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
            raise ValidationError("This project already has a webhook of this name. Choose another name.")
        return name

    def clean(self) -> dict[str, Any]:
        if Webhook.objects.for_project(self.instance.project).count() >= MAX_WEBHOOKS:
            raise ValidationError(
                f"A project can have at most {MAX_WEBHOOKS} webhooks. Delete one to add another."
            )
        return super().clean() or {}

    def create_with_secret(self) -> tuple[Webhook, str]:
        """Save the webhook, and return it with its signing secret, which is shown once."""
        secret = self.instance.new_secret()
        return self.save(), secret
