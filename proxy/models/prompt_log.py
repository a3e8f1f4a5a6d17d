"""The prompt log: its settings in each project, and the prompts and responses of requests."""

import time
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils.crypto import salted_hmac

from projects import vault
from projects.ids import uuid7_floor
from projects.models import Project, invalidates_config_cache

DEFAULT_RETENTION_DAYS = 30
MAX_RETENTION_DAYS = 3660
DELETE_BATCH_SIZE = 500
BATCH_PAUSE_S = 0.02
"""Pause between two batches, in which the ledger can lock SQLite."""
DIGEST_LENGTH = 64


class PromptLogMode(models.TextChoices):
    """Parts of prompts and responses that a project's log stores."""

    OFF = "off", "Nothing"
    PREVIEW = "preview", "The first 500 characters"
    FULL = "full", "Whole prompts and responses"


class RedactionRule(models.TextChoices):
    """Kinds of personal data and secrets that the log replaces."""

    EMAIL = "email", "E-mail addresses"
    CARD = "card", "Card numbers"
    PHONE = "phone", "Phone numbers"
    KEY = "key", "API keys and other credentials"


def all_rules() -> list[str]:
    """Return the names of all rules, which apply by default."""
    return list(RedactionRule.values)


@invalidates_config_cache
class PromptLogSettings(models.Model):
    """Settings of a project's log: what it stores, how long, and what is redacted.

    A project without a row has the defaults. `patterns` are regular expressions of the project
    (`prompt_log/patterns.py`).
    """

    project = models.OneToOneField(Project, models.CASCADE, related_name="prompt_log_settings")
    mode = models.CharField(max_length=10, choices=PromptLogMode.choices, default=PromptLogMode.PREVIEW)
    retention_days = models.PositiveIntegerField(
        default=DEFAULT_RETENTION_DAYS,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_RETENTION_DAYS)],
    )
    rules = models.JSONField(default=all_rules, blank=True)
    patterns = models.JSONField(default=list, blank=True)

    def __str__(self) -> str:
        return f"prompt log of {self.project}: {self.mode}"


class PromptLogEntryQuerySet(models.QuerySet["PromptLogEntry"]):
    """Queries of entries. Deletions are made in batches, so that no transaction is long."""

    def of_project(self, project_id: int, ids: Collection[UUID]) -> dict[UUID, "PromptLogEntry"]:
        """Return the entries of a project's requests, by the id of the request."""
        return {entry.pk: entry for entry in self.filter(project=project_id, pk__in=ids)}

    def delete_batch(self, ids: Collection[UUID]) -> int:
        """Delete entries and their end users. Return the number of entries."""
        with transaction.atomic():
            PromptLogUser.objects.filter(entry__in=ids).delete()
            return self.filter(pk__in=ids).delete()[0]

    def delete_before(self, project_id: int, created_at: datetime) -> int:
        """Delete a project's entries of requests before this time. Return their number."""
        expired = self.filter(project=project_id, pk__lt=uuid7_floor(created_at)).order_by("pk")
        return self.delete_all_of(expired.values_list("pk", flat=True))

    def delete_end_user(self, project_id: int, end_user: str) -> int:
        """Delete a project's entries of requests with this end user. Return their number."""
        named = PromptLogUser.objects.filter(project=project_id, digest=user_digest(project_id, end_user))
        return self.delete_all_of(named.values_list("entry", flat=True))

    def delete_all_of(self, ids: Any) -> int:
        """Delete the entries whose ids a query returns, until it returns none."""
        deleted = 0
        while batch := list(ids.all()[:DELETE_BATCH_SIZE]):
            deleted += self.delete_batch(batch)
            if len(batch) == DELETE_BATCH_SIZE:
                time.sleep(BATCH_PAUSE_S)
        return deleted


class PromptLogEntry(models.Model):
    """The prompt and the response of one request, whose usage record has the same id.

    `sealed_body` is a compressed and encrypted `LoggedBody` (`prompt_log/body.py`).
    """

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="prompt_log_entries", db_index=False)
    sealed_body = models.BinaryField()

    objects = PromptLogEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "prompt log entries"
        indexes = [models.Index(fields=["project", "id"], name="prompt_log_by_project_id")]

    def __str__(self) -> str:
        return f"prompt and response of request {self.pk}"

    def rotate_encryption(self) -> None:
        """Encrypt the body again with the first encryption key."""
        # This is an update, because save() would insert an entry that has been deleted in the meantime.
        sealed = vault.rotate_bytes(bytes(self.sealed_body))
        PromptLogEntry.objects.filter(pk=self.pk).update(sealed_body=sealed)


class PromptLogUser(models.Model):
    """An end user whom a logged request names. `digest` is a keyed digest of the end user's id."""

    entry = models.ForeignKey(PromptLogEntry, models.CASCADE, related_name="end_users")
    project = models.ForeignKey(Project, models.CASCADE, related_name="+", db_index=False)
    digest = models.CharField(max_length=DIGEST_LENGTH)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "digest", "entry"], name="unique_prompt_log_user")
        ]

    def __str__(self) -> str:
        return f"an end user of {self.entry}"


def user_digest(project_id: int, end_user: str) -> str:
    """Return the digest under which an end user is stored.

    Somebody who has a dump of the database, but not GATEWAY_SECRET_KEY, cannot check a guessed end user.
    """
    name = f"{project_id}\0{end_user}"
    return salted_hmac("proxy.prompt_log.end_user", name, algorithm="sha256").hexdigest()


def end_user_rows(entry: PromptLogEntry, end_users: Iterable[str]) -> list[PromptLogUser]:
    """Return the rows of the end users of an entry."""
    return [
        PromptLogUser(
            entry=entry, project_id=entry.project_id, digest=user_digest(entry.project_id, end_user)
        )
        for end_user in end_users
    ]
