"""Tables of the Redis ledger: stream cursors, and records that could not be written to Redis."""

from django.db import models

from projects.models import Project


class StreamCursor(models.Model):
    """The position up to which the records of a project's stream in Redis are in the database.

    Only the ledger writes it, in the transaction that inserts the records. `is_registered` means that Redis
    has had data of the project. If Redis then has no data of the project, it has lost the data.
    """

    project = models.OneToOneField(
        Project, models.CASCADE, primary_key=True, related_name="+", db_constraint=False
    )
    is_registered = models.BooleanField(default=False)
    last_id_ms = models.BigIntegerField(
        default=0, help_text="First part of the id of the last stored stream entry: milliseconds."
    )
    last_id_seq = models.BigIntegerField(
        default=0, help_text="Second part of that id: the sequence number within the millisecond."
    )

    def __str__(self) -> str:
        return f"{self.project} up to {self.last_id_ms}-{self.last_id_seq}"


class UnsentRecord(models.Model):
    """A usage record that a process could not write to Redis.

    Any process can write the record to Redis later, and then deletes this row. The row may also exist if
    Redis or the database already has the record. Writing the record again has no effect.
    """

    id = models.UUIDField(primary_key=True)
    entry = models.TextField(help_text="The record, encoded as in the record stream.")
    owner = models.CharField(
        max_length=32,
        blank=True,
        default="",
        db_default="",
        help_text=(
            "The process whose request was still in flight: the record is an estimate, which counts only "
            "if that process has died."
        ),
    )

    def __str__(self) -> str:
        return str(self.id)
