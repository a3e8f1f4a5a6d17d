"""Webhooks: URLs to which the gateway sends the alerts of a project."""

import base64
import secrets
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import models

from projects import vault
from projects.models import Project, audited
from projects.outbound import BlockedURL, validate_host

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def validate_webhook_url(url: str) -> None:
    """Raise ValidationError if a URL is not valid, or if its host is a private IP address.

    Unlike a provider's base URL, the URL may have a query, because many receivers expect a token there.
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


@audited
class Webhook(models.Model):
    """A URL that receives signed messages.

    The gateway signs each message with the webhook's secret (`alerts/webhook.py`), which is stored encrypted.
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
        """The host and port of the URL. Pages show only these, because the rest may contain a token."""
        return urlsplit(self.url).netloc

    def new_secret(self) -> str:
        """Generate a secret, store it encrypted in this webhook, and return it. The caller must save the row.

        The secret has the form of the Standard Webhooks specification: `whsec_` and base64.
        """
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        self.sealed_secret = vault.seal(self.project_id, secret)
        return secret

    def signing_key(self) -> bytes:
        """Return the key with which messages are signed. Raises vault.DecryptionError."""
        return base64.b64decode(vault.unseal(self.project_id, self.sealed_secret).removeprefix(SECRET_PREFIX))

    def rotate_encryption(self) -> None:
        """Encrypt the secret again, with the first key of GATEWAY_ENCRYPTION_KEYS."""
        self.sealed_secret = vault.rotate(self.sealed_secret)
        self.save(update_fields=["sealed_secret"])
