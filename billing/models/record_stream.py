"""How far the records that wait in Redis have been taken into the database, and those that could not be brought to Redis."""

from django.db import models

from projects.models import Project


class StreamCursor(models.Model):
    """One project's stream of records in Redis. Written by the ledger alone, in the transaction that inserts the records.

    `is_registered` says that reservations of this project were made in Redis: if Redis knows nothing of it any more, it has been emptied.
    """

    project = models.OneToOneField(
        Project, models.CASCADE, primary_key=True, related_name="+", db_constraint=False
    )
    is_registered = models.BooleanField(default=False)
    last_id_ms = models.BigIntegerField(
        default=0, help_text="The id of the last event that is in the database: milliseconds,"
    )
    last_id_seq = models.BigIntegerField(
        default=0, help_text="and its number among those of that millisecond."
    )

    def __str__(self) -> str:
        return f"{self.project} up to {self.last_id_ms}-{self.last_id_seq}"


class UnsentRecord(models.Model):
    """A record that its process could not bring to Redis. That process or another one brings it there and then deletes the row.

    A row may outlive its purpose: Redis may have the record, or the database may. Bringing it there again changes nothing.
    """

    id = models.UUIDField(primary_key=True)
    entry = models.TextField(help_text="The record as it goes to the outbox.")
    owner = models.CharField(
        max_length=32,
        blank=True,
        default="",
        db_default="",
        help_text="The process of a request that was still under way: the record is an estimate, and counts if that process has died.",
    )

    def __str__(self) -> str:
        return str(self.id)
