"""Webhooks: URLs of a project's own systems that receive alerts."""

import base64
import secrets
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import models

from projects import vault
from projects.models import Project
from projects.outbound import BlockedURL, validate_host

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def validate_webhook_url(url: str) -> None:
    """Reject URLs that are not valid or lead into private networks.

    Unlike a provider's base URL, a webhook's URL may have a query: many receivers expect a token there.
    """
    try:
        validate_host(url)
    except BlockedURL as error:
        raise ValidationError(f"{error}.") from None
    if "#" in url:
        raise ValidationError("Enter a URL without a fragment.")


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def for_project(self, project: Project) -> "WebhookQuerySet":
        return self.filter(project=project).order_by("name", "pk")


class Webhook(models.Model):
    """A receiver of signed messages.

    Its secret is stored encrypted and signs each message (`alerts/webhook.py`).
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=80)
    url = models.CharField("URL", max_length=500, validators=[validate_webhook_url])
    sealed_secret = models.TextField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="unique_webhook_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.host})"

    @property
    def host(self) -> str:
        """The part of the URL that may be shown: the rest can contain a token."""
        return urlsplit(self.url).netloc

    def new_secret(self) -> str:
        """Generate a secret, seal it into this webhook and return it, to be shown once. The caller saves.

        Its form is that of the Standard Webhooks specification: `whsec_` and base64.
        """
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        self.sealed_secret = vault.seal(self.project_id, secret)
        return secret

    def signing_key(self) -> bytes:
        """Return the bytes that sign messages. Raises vault.DecryptionError."""
        return base64.b64decode(vault.unseal(self.project_id, self.sealed_secret).removeprefix(SECRET_PREFIX))

    def rotate_encryption(self) -> None:
        """Encrypt the secret again, with the first encryption key."""
        self.sealed_secret = vault.rotate(self.sealed_secret)
        self.save(update_fields=["sealed_secret"])
