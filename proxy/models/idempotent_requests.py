"""Requests with an Idempotency-Key, and their stored responses."""

from datetime import timedelta
from uuid import UUID

from django.db import models
from django.utils import timezone

from projects import vault
from projects.models import Project

LEASE_DURATION = timedelta(seconds=45)
"""Time after which a key can be used again if its process does not renew the lease.

The clocks of the machines may differ by less than this minus `idempotency.LEASE_RENEW_INTERVAL_S`.
"""
RETENTION = timedelta(hours=24)


class IdempotentRequestQuerySet(models.QuerySet["IdempotentRequest"]):
    """Queries of leases. Each change is one statement, so that processes agree."""

    def claim(
        self, project_id: int, key: str, fingerprint: str, claim_id: UUID
    ) -> "IdempotentRequest | None":
        """Claim the key if it is free, and return the request that has it.

        If the key was free, the returned request has `claim_id`. Return None if the other request released
        the key at this moment.
        """
        self.filter(project=project_id, key=key, expires_at__lte=timezone.now()).delete()
        claimed = self.model(
            project_id=project_id,
            key=key,
            fingerprint=fingerprint,
            claim_id=claim_id,
            expires_at=timezone.now() + LEASE_DURATION,
        )
        self.bulk_create([claimed], ignore_conflicts=True)
        return self.filter(project=project_id, key=key).first()

    def completed(self) -> "IdempotentRequestQuerySet":
        """Return requests that have a stored response."""
        return self.exclude(sealed_response="")

    def renew(self, claim_id: UUID) -> None:
        """Extend the lease of a request in progress."""
        self.filter(claim_id=claim_id, sealed_response="").update(expires_at=timezone.now() + LEASE_DURATION)

    def complete(self, claim_id: UUID, sealed_response: str) -> None:
        """Store the response of a request."""
        self.filter(claim_id=claim_id).update(
            sealed_response=sealed_response, expires_at=timezone.now() + RETENTION
        )

    def release(self, claim_id: UUID) -> None:
        """Release the key, so that another request can use it."""
        self.filter(claim_id=claim_id).delete()

    def purge(self) -> int:
        """Delete expired requests. Return their number."""
        return self.filter(expires_at__lte=timezone.now()).delete()[0]


class IdempotentRequest(models.Model):
    """A request with an Idempotency-Key.

    It is in progress until it has a response or `expires_at` is reached.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="idempotent_requests")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    claim_id = models.UUIDField(unique=True)
    expires_at = models.DateTimeField(db_index=True)
    sealed_response = models.TextField(blank=True, help_text="Data of customers, encrypted like credentials.")

    objects = IdempotentRequestQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "key"], name="unique_idempotency_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.project}"

    def rotate_encryption(self) -> None:
        """Encrypt the response again with the first encryption key."""
        # This is an update, because save() would insert a row that has been purged in the meantime.
        IdempotentRequest.objects.filter(pk=self.pk).update(
            sealed_response=vault.rotate(self.sealed_response)
        )
