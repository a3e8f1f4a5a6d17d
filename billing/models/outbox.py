"""How far the records that wait in Redis have been taken into the database, and those that could not be brought to Redis."""

from django.db import models

from projects.models import Project


class Outbox(models.Model):
    """One project's stream of records in Redis. Written by the ledger alone, in the transaction that inserts the records.

    `entered` says that reservations of this project were made in Redis: if Redis knows nothing of it any more, it has been emptied.
    """

    project = models.OneToOneField(Project, models.CASCADE, primary_key=True, related_name="+", db_constraint=False)
    entered = models.BooleanField(default=False)
    drained_ms = models.BigIntegerField(default=0, help_text="The id of the last event that is in the database: milliseconds,")
    drained_seq = models.BigIntegerField(default=0, help_text="and its number among those of that millisecond.")

    class Meta:
        verbose_name_plural = "outboxes"

    def __str__(self) -> str:
        return f"{self.project} up to {self.drained_ms}-{self.drained_seq}"


class OwedRecord(models.Model):
    """A record that a process which ended could not bring to Redis any more. Another one does, which counts it where it belongs."""

    id = models.UUIDField(primary_key=True)
    entry = models.TextField(help_text="The record as it goes to the outbox.")

    def __str__(self) -> str:
        return str(self.id)
