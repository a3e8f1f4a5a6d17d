"""Ids that providers issued to projects.

They are the ids of objects in accounts that projects share, and of responses in all accounts.
"""

from collections.abc import Collection, Iterable

from django.db import models
from django.utils import timezone

from projects.models import Project

LOOKUP_BATCH_SIZE = INSERT_BATCH_SIZE = 500
PURGE_BATCH_SIZE = 1000


class IssuedIdQuerySet(models.QuerySet["IssuedId"]):
    """Queries of issued ids."""

    def known(self, project_id: int, digests: Collection[str]) -> set[str]:
        """Return those digests whose ids were issued to this project and have not expired."""
        current, requested = self.current(project_id), list(digests)
        starts = range(0, len(requested), LOOKUP_BATCH_SIZE)
        batches = [
            current.filter(digest__in=requested[start : start + LOOKUP_BATCH_SIZE]) for start in starts
        ]
        return {digest for batch in batches for digest in batch.values_list("digest", flat=True)}

    def find(self, project_id: int, digests: Collection[str]) -> "IssuedId | None":
        """Return an unexpired id of this project with one of these digests, or None."""
        return self.current(project_id).filter(digest__in=digests).first()

    def issuers(self, project_id: int, digests: Collection[str]) -> dict[str, str]:
        """Return the account that issued each of these ids, by digest."""
        found = self.current(project_id).filter(digest__in=list(digests)[:LOOKUP_BATCH_SIZE])
        return dict(found.values_list("digest", "account"))

    def current(self, project_id: int) -> "IssuedIdQuerySet":
        """Return the ids of a project that have not expired."""
        not_expired = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(not_expired, project=project_id)

    def forget(self, project_id: int, digest: str) -> None:
        """Delete an id whose object no longer exists."""
        self.filter(project=project_id, digest=digest).delete()

    def store(self, issued: Iterable["IssuedId"]) -> None:
        """Store ids in one transaction. The expiry of an id that is already stored is replaced."""
        # One statement cannot write a row twice, so duplicates are removed. Rows are sorted, because
        # processes that write rows in the same order do not deadlock.
        rows = {(row.project_id, row.digest): row for row in issued}
        self.bulk_create(
            [rows[key] for key in sorted(rows)],
            batch_size=INSERT_BATCH_SIZE,
            update_conflicts=True,
            unique_fields=["project", "digest"],
            update_fields=["expires_at"],
        )

    def purge(self) -> int:
        """Delete expired ids in batches, so that no transaction is long. Return their number."""
        removed = 0
        oldest = self.expired().order_by("expires_at").values_list("pk", flat=True)
        while batch := list(oldest.all()[:PURGE_BATCH_SIZE]):
            # Check the expiry again, because it may have been extended in the meantime.
            removed += self.expired().filter(pk__in=batch).delete()[0]
        return removed

    def expired(self) -> "IssuedIdQuerySet":
        """Return ids that have expired."""
        return self.filter(expires_at__lte=timezone.now())


class IssuedId(models.Model):
    """An id of an object in an account, which a provider issued to this project.

    `digest` covers the account, the kind and the id. `model` is the requested model of a response.
    `expires_at` is null if the provider states no expiry.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="issued_ids")
    account = models.CharField(max_length=60)
    kind = models.CharField(max_length=20)
    digest = models.CharField(max_length=64)
    model = models.CharField(max_length=200, default="", db_default="")
    expires_at = models.DateTimeField(null=True, db_index=True)

    objects = IssuedIdQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "digest"], name="unique_issued_id")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.project} at {self.account}"
