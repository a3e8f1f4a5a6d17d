"""Provider credentials of projects, and answers that are kept to be given again."""

from datetime import timedelta
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from projects import vault
from projects.addresses import BadAddress, check_address
from projects.models import Project, cached_by_gateways
from proxy.providers import DEMO, PROVIDERS

SECRET_HINT_LENGTH = 4
LEASE = timedelta(seconds=45)
"""How long an idempotency key stays taken when the process that runs its request says nothing more. Clocks of machines may differ by
less than what is between this and `idempotency.RENEW_S`."""
KEPT = timedelta(hours=24)


def provider_choices() -> list[tuple[str, str]]:
    """A function, so that a new provider is no migration."""
    return [(slug, provider.name) for slug, provider in PROVIDERS.items() if slug != DEMO]


def validate_base_url(url: str) -> None:
    try:
        check_address(url)
    except BadAddress as error:
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


class IdempotentRequestQuerySet(models.QuerySet["IdempotentRequest"]):
    def claim(self, project_id: int, key: str, fingerprint: str, owner: UUID) -> "IdempotentRequest | None":
        """Who holds this key: `owner`, if it was free, else the request that came first; None if that one ended at this moment."""
        self.filter(project=project_id, key=key, expires_at__lte=timezone.now()).delete()
        mine = self.model(project_id=project_id, key=key, fingerprint=fingerprint, owner=owner, expires_at=timezone.now() + LEASE)
        self.bulk_create([mine], ignore_conflicts=True)
        return self.filter(project=project_id, key=key).first()

    def answered(self) -> "IdempotentRequestQuerySet":
        return self.exclude(sealed_answer="")

    def renew(self, owner: UUID) -> None:
        self.filter(owner=owner, sealed_answer="").update(expires_at=timezone.now() + LEASE)

    def keep(self, owner: UUID, sealed_answer: str) -> None:
        self.filter(owner=owner).update(sealed_answer=sealed_answer, expires_at=timezone.now() + KEPT)

    def free(self, owner: UUID) -> None:
        self.filter(owner=owner).delete()

    def purge(self) -> int:
        return self.filter(expires_at__lte=timezone.now()).delete()[0]


class IdempotentRequest(models.Model):
    """A request that came with an Idempotency-Key: under way as long as there is no answer, and until `expires_at`."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="idempotent_requests")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    owner = models.UUIDField(unique=True)
    expires_at = models.DateTimeField(db_index=True)
    sealed_answer = models.TextField(blank=True, help_text="Customers' data: encrypted as credentials are.")

    objects = IdempotentRequestQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "key"], name="one_request_per_idempotency_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.project}"

    def rotate(self) -> None:
        """Encrypts the answer anew under the first encryption key."""
        # Not saved: it may have been purged meanwhile.
        IdempotentRequest.objects.filter(pk=self.pk).update(sealed_answer=vault.rotate(self.sealed_answer))
