"""Credentials of projects for providers."""

import asyncio

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from projects import vault
from projects.models import Project, audited, invalidates_config_cache
from projects.outbound import BlockedURL, validate_base_url
from proxy.providers import key_check
from proxy.providers.base_urls import UnusableBaseURL, check_base_url, normalize_base_url
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

    def store_result(self, reason: str) -> None:
        """Store that the provider accepts these credentials, or the reason why it does not.

        Unlike `save`, this does not invalidate the config caches, which do not contain the result.
        """
        now = timezone.now()
        changes = {"last_error_at": now, "last_error": reason} if reason else {"last_success_at": now}
        self.update(**changes)

    def store_live_result(self, project_id: int, slug: str, reason: str) -> None:
        """Store the result of a client's request with a credential, which may have been deleted."""
        self.filter(project=project_id, slug=slug).store_result(reason)


@audited
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
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_error_at = models.DateTimeField(null=True, editable=False)
    last_error = models.TextField(editable=False, blank=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "slug"], name="unique_credential_slug")]

    def __str__(self) -> str:
        return f"{self.slug} of {self.project}"

    def clean(self) -> None:
        """Validate and normalize the base URL.

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
        try:
            self.base_url = normalize_base_url(provider, self.base_url)
        except ValueError:
            # The validator of the field has already reported a URL that cannot be parsed.
            return

    def set_secret(self, secret: str) -> None:
        """Encrypt the provider's API key into this credential, without saving it."""
        self.sealed_secret = vault.seal(self.project_id, secret) if secret else ""
        self.secret_suffix = secret[-SECRET_SUFFIX_LENGTH:] if len(secret) > 3 * SECRET_SUFFIX_LENGTH else ""

    def decrypt_secret(self) -> str:
        """Return the provider's API key. Raises vault.DecryptionError."""
        return vault.unseal(self.project_id, self.sealed_secret) if self.sealed_secret else ""

    @property
    def is_failing(self) -> bool:
        """Return whether the provider rejected the last test, or the last requests of clients."""
        if self.last_error_at is None:
            return False
        return self.last_success_at is None or self.last_success_at < self.last_error_at

    @property
    def check_needs_key(self) -> bool:
        """Return whether a test shows that the key is valid.

        Some providers have no free call that shows this.
        """
        return PROVIDERS[self.provider].check_needs_key

    def test(self) -> str:
        """Call the provider with this credential, and store the result. Return the reason of a failure."""
        reason = self.find_problem()
        Credential.objects.filter(pk=self.pk).store_result(reason)
        return reason

    def find_problem(self) -> str:
        """Return why the provider does not accept this credential; an empty string if it does."""
        try:
            secret = self.decrypt_secret()
        except vault.DecryptionError as error:
            return f"The stored key cannot be decrypted: {error}"
        return asyncio.run(key_check.check(PROVIDERS[self.provider], self.base_url, secret))

    def rotate_encryption(self) -> None:
        """Encrypt the secret again with the first encryption key."""
        if self.sealed_secret:
            self.sealed_secret = vault.rotate(self.sealed_secret)
            self.save(update_fields=["sealed_secret"])
