"""Responses that providers continue in the background, until their usage records are written."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.db import models
from django.utils import timezone

from projects.models import Project

FIRST_POLL_S = 1
MAX_POLL_INTERVAL_S = 60
MAX_DOUBLINGS = 6
"""Number of polls after which the interval no longer grows, because it has reached the maximum."""


class BackgroundResponseQuerySet(models.QuerySet["BackgroundResponse"]):
    """Queries of background responses. Each change is one statement, so that processes agree."""

    def add(self, response: "BackgroundResponse") -> None:
        """Store a response. Storing it again has no effect."""
        self.bulk_create([response], ignore_conflicts=True)

    def of_id(self, project_id: int, digest: str) -> "list[BackgroundResponse]":
        """Return the background responses of a project whose id has this digest."""
        return list(self.filter(project=project_id, digest=digest))

    def due(self, count: int, busy_projects: Collection[int]) -> "list[BackgroundResponse]":
        """Return up to `count` responses to poll now, without those of projects that are busy."""
        due = self.filter(next_poll_at__lte=timezone.now()).exclude(project__in=busy_projects)
        return list(due.order_by("next_poll_at")[:count])

    def discard(self, id: UUID) -> bool:
        """Delete a response whose usage record is written. Return False if it was already deleted."""
        return self.filter(pk=id).delete()[0] > 0


class BackgroundResponse(models.Model):
    """A response that its provider continues after the request that created it has ended.

    `id` is the id of the usage record, which is written when the response has ended. `entry` is that record
    as an estimate; it is used if the result cannot be fetched. The response's id at the provider is stored
    while this row exists, because polls need it.
    """

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="background_responses")
    account = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, help_text="As in the issued id of the response.")
    response_id = models.TextField()
    entry = models.TextField(help_text="The usage record as an estimate, in JSON.")
    price = models.TextField(
        blank=True, help_text="The price of the model in all tiers, in JSON, if it is known."
    )
    usage_defaults = models.TextField(
        help_text="What the request asked for, in JSON. It is charged if the response does not report it."
    )
    created_at = models.DateTimeField(default=timezone.now)
    polls = models.PositiveIntegerField(default=0)
    next_poll_at = models.DateTimeField(db_index=True)

    objects = BackgroundResponseQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "digest"], name="background_by_digest")]

    def __str__(self) -> str:
        return f"response of {self.project} at {self.account}"

    def claim_poll(self) -> bool:
        """Claim the next poll with a compare-and-set. Return whether this process has claimed it."""
        unclaimed = BackgroundResponse.objects.filter(pk=self.pk, polls=self.polls)
        self.next_poll_at = timezone.now() + timedelta(seconds=poll_interval_s(self.polls))
        self.polls += 1
        return unclaimed.update(polls=self.polls, next_poll_at=self.next_poll_at) == 1


def poll_interval_s(polls: int) -> int:
    """Return the seconds until the next poll. They double after each poll, up to a minute."""
    return min(FIRST_POLL_S << min(polls + 1, MAX_DOUBLINGS), MAX_POLL_INTERVAL_S)
