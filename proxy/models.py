"""Provider credentials of projects."""

from django.core.exceptions import ValidationError
from django.db import models

from projects.models import Project, cached_by_gateways
from proxy import vault
from proxy.providers import DEMO, PROVIDERS
from proxy.upstream import BadUpstreamAddress, check_address

SECRET_HINT_LENGTH = 4


def provider_choices() -> list[tuple[str, str]]:
    """A function, so that a new provider is no migration."""
    return [(slug, provider.name) for slug, provider in PROVIDERS.items() if slug != DEMO]


def validate_base_url(url: str) -> None:
    try:
        check_address(url)
    except BadUpstreamAddress as error:
        raise ValidationError(str(error)) from None


class CredentialQuerySet(models.QuerySet["Credential"]):
    def for_project(self, project: Project) -> "CredentialQuerySet":
        return self.filter(project=project).order_by("slug")


@cached_by_gateways
class Credential(models.Model):
    """A project's account at a provider. Models are reached as `slug/model`, and by the bare names listed in `models`."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="credentials")
    slug = models.SlugField("name", max_length=60, help_text="The prefix of model names: “local” is called as local/llama3.")
    provider = models.CharField(max_length=60, choices=provider_choices)
    base_url = models.CharField(
        "base URL", max_length=300, blank=True, validators=[validate_base_url], help_text="Empty: the provider's own address."
    )
    sealed_secret = models.TextField(editable=False, blank=True)
    secret_hint = models.CharField(max_length=SECRET_HINT_LENGTH, editable=False, blank=True)
    model_names = models.JSONField("models", default=list, blank=True, help_text="Names that reach this credential without its prefix.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "slug"], name="one_credential_per_name")]

    def __str__(self) -> str:
        return f"{self.slug} of {self.project}"

    def clean(self) -> None:
        provider = PROVIDERS.get(self.provider)
        if provider and not self.base_url and not provider.base_url:
            raise ValidationError({"base_url": "A compatible server needs its address."})

    def store_secret(self, secret: str) -> None:
        """Encrypts the provider's API key into this credential; the caller saves it."""
        self.sealed_secret = vault.seal(self.project_id, secret) if secret else ""
        self.secret_hint = secret[-SECRET_HINT_LENGTH:] if len(secret) > 3 * SECRET_HINT_LENGTH else ""

    def secret(self) -> str:
        """The provider's API key in clear; raises vault.Undecipherable."""
        return vault.unseal(self.project_id, self.sealed_secret) if self.sealed_secret else ""

    def rotate(self) -> None:
        """Encrypts the secret anew under the first encryption key."""
        if self.sealed_secret:
            self.sealed_secret = vault.rotate(self.sealed_secret)
            self.save(update_fields=["sealed_secret"])
