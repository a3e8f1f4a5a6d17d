"""Credentials of projects for providers."""

from django.core.exceptions import ValidationError
from django.db import models

from projects import vault
from projects.models import Project, invalidates_config_cache
from projects.outbound import BlockedURL, validate_base_url
from proxy.providers.base_urls import UnusableBaseURL, check_base_url
from proxy.providers.catalog import DEMO, PROVIDERS

SECRET_SUFFIX_LENGTH = 4


def provider_choices() -> list[tuple[str, str]]:
    """Return the choices of providers.

    Because this is a function, a new provider needs no migration.
    """
    return [(slug, provider.name) for slug, provider in PROVIDERS.items() if slug != DEMO]


def validate_credential_url(url: str) -> None:
    """Raise ValidationError for a URL that tenants may not use."""
    try:
        validate_base_url(url)
    except BlockedURL as error:
        raise ValidationError(str(error)) from None


class CredentialQuerySet(models.QuerySet["Credential"]):
    """Queries of credentials."""

    def for_project(self, project: Project) -> "CredentialQuerySet":
        """Return the credentials of a project by name."""
        return self.filter(project=project).order_by("slug")


@invalidates_config_cache
class Credential(models.Model):
    """A project's account at a provider.

    Its models are called as `slug/model`. The models in `model_names` can also be called without the prefix.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="credentials")
    slug = models.SlugField(
        "name", max_length=60, help_text="The prefix of model names: “local” is called as local/llama3."
    )
    provider = models.CharField(max_length=60, choices=provider_choices)
    base_url = models.CharField(
        "base URL",
        max_length=300,
        blank=True,
        validators=[validate_credential_url],
        help_text="If empty, the provider's own URL is used.",
    )
    sealed_secret = models.TextField(editable=False, blank=True)
    secret_suffix = models.CharField(max_length=SECRET_SUFFIX_LENGTH, editable=False, blank=True)
    model_names = models.JSONField(
        "models", default=list, blank=True, help_text="Models that can be called without the prefix."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "slug"], name="unique_credential_slug")]

    def __str__(self) -> str:
        return f"{self.slug} of {self.project}"

    def clean(self) -> None:
        """Validate the base URL.

        A provider without a URL of its own requires one, and the URL must be usable with the provider.
        """
        provider = PROVIDERS.get(self.provider)
        if provider is None:
            return
        if not self.base_url and not provider.base_url:
            raise ValidationError({"base_url": "A compatible server needs a base URL."})
        try:
            check_base_url(provider, self.base_url)
        except UnusableBaseURL as error:
            raise ValidationError({"base_url": str(error)}) from None

    def set_secret(self, secret: str) -> None:
        """Encrypt the provider's API key into this credential, without saving it."""
        self.sealed_secret = vault.seal(self.project_id, secret) if secret else ""
        self.secret_suffix = secret[-SECRET_SUFFIX_LENGTH:] if len(secret) > 3 * SECRET_SUFFIX_LENGTH else ""

    def decrypt_secret(self) -> str:
        """Return the provider's API key. Raises vault.DecryptionError."""
        return vault.unseal(self.project_id, self.sealed_secret) if self.sealed_secret else ""

    def rotate_encryption(self) -> None:
        """Encrypt the secret again with the first encryption key."""
        if self.sealed_secret:
            self.sealed_secret = vault.rotate(self.sealed_secret)
            self.save(update_fields=["sealed_secret"])
