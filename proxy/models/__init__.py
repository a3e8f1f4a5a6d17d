"""Provider credentials of projects, answers kept to be given again, and ids that providers issued."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from projects import vault
from projects.models import Project, invalidates_config_cache
from projects.outbound import BlockedURL, validate_base_url
from proxy.providers.catalog import DEMO, PROVIDERS

SECRET_SUFFIX_LENGTH = 4
LEASE_DURATION = timedelta(seconds=45)
"""How long an idempotency key stays taken when the process that runs its request says nothing more. Clocks of machines may differ by
less than what is between this and `idempotency.RENEW_S`."""
RETENTION = timedelta(hours=24)
LOOKED_UP_AT_ONCE = STORED_AT_ONCE = 500
PURGED_AT_ONCE = 1000


def provider_choices() -> list[tuple[str, str]]:
    """A function, so that a new provider is no migration."""
    return [(slug, provider.name) for slug, provider in PROVIDERS.items() if slug != DEMO]


def validate_credential_url(url: str) -> None:
    try:
        validate_base_url(url)
    except BlockedURL as error:
        raise ValidationError(str(error)) from None


class CredentialQuerySet(models.QuerySet["Credential"]):
    def for_project(self, project: Project) -> "CredentialQuerySet":
        return self.filter(project=project).order_by("slug")


@invalidates_config_cache
class Credential(models.Model):
    """A project's account at a provider. Models are reached as `slug/model`, and by the bare names listed in `models`."""

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
        help_text="Empty: the provider's own address.",
    )
    sealed_secret = models.TextField(editable=False, blank=True)
    secret_suffix = models.CharField(max_length=SECRET_SUFFIX_LENGTH, editable=False, blank=True)
    model_names = models.JSONField(
        "models", default=list, blank=True, help_text="Names that reach this credential without its prefix."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "slug"], name="unique_credential_slug")]

    def __str__(self) -> str:
        return f"{self.slug} of {self.project}"

    def clean(self) -> None:
        provider = PROVIDERS.get(self.provider)
        if provider and not self.base_url and not provider.base_url:
            raise ValidationError({"base_url": "A compatible server needs its address."})

    def set_secret(self, secret: str) -> None:
        """Encrypts the provider's API key into this credential; the caller saves it."""
        self.sealed_secret = vault.seal(self.project_id, secret) if secret else ""
        self.secret_suffix = secret[-SECRET_SUFFIX_LENGTH:] if len(secret) > 3 * SECRET_SUFFIX_LENGTH else ""

    def decrypt_secret(self) -> str:
        """The provider's API key in clear; raises vault.Undecipherable."""
        return vault.unseal(self.project_id, self.sealed_secret) if self.sealed_secret else ""

    def rotate_encryption(self) -> None:
        """Encrypts the secret anew under the first encryption key."""
        if self.sealed_secret:
            self.sealed_secret = vault.rotate(self.sealed_secret)
            self.save(update_fields=["sealed_secret"])


class IdempotentRequestQuerySet(models.QuerySet["IdempotentRequest"]):
    def claim(
        self, project_id: int, key: str, fingerprint: str, claim_id: UUID
    ) -> "IdempotentRequest | None":
        """Who holds this key: `claim_id`, if it was free, else the request that came first; None if that one ended at this moment."""
        self.filter(project=project_id, key=key, expires_at__lte=timezone.now()).delete()
        mine = self.model(
            project_id=project_id,
            key=key,
            fingerprint=fingerprint,
            claim_id=claim_id,
            expires_at=timezone.now() + LEASE_DURATION,
        )
        self.bulk_create([mine], ignore_conflicts=True)
        return self.filter(project=project_id, key=key).first()

    def completed(self) -> "IdempotentRequestQuerySet":
        return self.exclude(sealed_response="")

    def renew(self, claim_id: UUID) -> None:
        self.filter(claim_id=claim_id, sealed_response="").update(expires_at=timezone.now() + LEASE_DURATION)

    def complete(self, claim_id: UUID, sealed_response: str) -> None:
        self.filter(claim_id=claim_id).update(
            sealed_response=sealed_response, expires_at=timezone.now() + RETENTION
        )

    def release(self, claim_id: UUID) -> None:
        self.filter(claim_id=claim_id).delete()

    def purge(self) -> int:
        return self.filter(expires_at__lte=timezone.now()).delete()[0]


class IdempotentRequest(models.Model):
    """A request that came with an Idempotency-Key: under way as long as there is no answer, and until `expires_at`."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="idempotent_requests")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    claim_id = models.UUIDField(unique=True)
    expires_at = models.DateTimeField(db_index=True)
    sealed_response = models.TextField(blank=True, help_text="Customers' data: encrypted as credentials are.")

    objects = IdempotentRequestQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "key"], name="unique_idempotency_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.project}"

    def rotate_encryption(self) -> None:
        """Encrypts the answer anew under the first encryption key."""
        # Not saved: it may have been purged meanwhile.
        IdempotentRequest.objects.filter(pk=self.pk).update(
            sealed_response=vault.rotate(self.sealed_response)
        )


class IssuedIdQuerySet(models.QuerySet["IssuedId"]):
    def known(self, project_id: int, digests: Collection[str]) -> set[str]:
        """Return those of the digests whose ids were issued to this project and have not expired."""
        lasting = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        current = self.filter(lasting, project=project_id)
        wanted = list(digests)
        starts = range(0, len(wanted), LOOKED_UP_AT_ONCE)
        parts = [current.filter(digest__in=wanted[start : start + LOOKED_UP_AT_ONCE]) for start in starts]
        return {digest for part in parts for digest in part.values_list("digest", flat=True)}

    def keep(self, issued: Iterable["IssuedId"]) -> None:
        """Store ids in one transaction. A stored id gets the expiry of its new record."""
        # One statement cannot write a row twice. Processes that write rows in the same order do not deadlock.
        rows = {(row.project_id, row.digest): row for row in issued}
        self.bulk_create(
            [rows[key] for key in sorted(rows)],
            batch_size=STORED_AT_ONCE,
            update_conflicts=True,
            unique_fields=["project", "digest"],
            update_fields=["expires_at"],
        )

    def purge(self) -> int:
        """Delete expired ids in batches, so that no transaction is long; returns how many."""
        removed = 0
        oldest = self.expired().order_by("expires_at").values_list("pk", flat=True)
        while batch := list(oldest.all()[:PURGED_AT_ONCE]):
            # An id that was kept for longer meanwhile has not expired.
            removed += self.expired().filter(pk__in=batch).delete()[0]
        return removed

    def expired(self) -> "IssuedIdQuerySet":
        """Return those that have expired by now."""
        return self.filter(expires_at__lte=timezone.now())


class IssuedId(models.Model):
    """An id that a provider issued to this project, of an object in an account of the operator.

    `digest` is of the account, the kind and the id. `expires_at` is empty if the provider sets no limit.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="issued_ids")
    account = models.CharField(max_length=60)
    kind = models.CharField(max_length=20)
    digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField(null=True, db_index=True)

    objects = IssuedIdQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "digest"], name="unique_issued_id")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.project} at {self.account}"
