"""Audit entries: who has changed what, and from where.

A model with the decorator `@audited` gets an entry for each row that is saved or deleted: by a page, the
management API, the admin or a command. Updates by a queryset write no entry.
"""

from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models.signals import post_delete, post_save

ModelT = TypeVar("ModelT", bound=type[models.Model])
MAX_SUBJECT_LENGTH = 200


class Action(models.TextChoices):
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change: an e-mail address or a masked API key, its means, and its client address."""

    label: str
    via: str
    address: str = ""


SYSTEM = Actor("", "system")
"""The gateway itself, or a command."""
current_actor: ContextVar[Callable[[], Actor]] = ContextVar("current_actor", default=lambda: SYSTEM)
"""Returns who acts in this request. It is called only if there is something to record."""


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def for_project(self, project: models.Model) -> "AuditEntryQuerySet":
        return self.filter(project=project.pk)


class AuditEntry(models.Model):
    """Record of one change of a row. It refers to the row by its text, so it stays after the deletion."""

    project = models.ForeignKey(
        "projects.Project", models.DO_NOTHING, null=True, related_name="+", db_constraint=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=254)
    via = models.CharField(max_length=20)
    address = models.CharField(max_length=45)
    action = models.CharField(max_length=10, choices=Action.choices)
    model = models.CharField(max_length=40)
    subject = models.CharField(max_length=MAX_SUBJECT_LENGTH)
    fields = models.JSONField(default=list, help_text="Names of the changed fields, if they are known.")

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["project", "id"], name="audit_by_project")]

    def __str__(self) -> str:
        return f"{self.actor or self.via} {self.action} {self.model} {self.subject}"


def audited(model: ModelT) -> ModelT:
    """Record each change of a row of this model, in the transaction of the change."""
    post_save.connect(record_save, sender=model, weak=False)
    post_delete.connect(record_deletion, sender=model, weak=False)
    return model


def record_save(
    instance: models.Model,
    created: bool,
    update_fields: Collection[str] | None,
    raw: bool = False,
    **_: Any,
) -> None:
    if not raw:
        action = Action.CREATED if created else Action.CHANGED
        record(instance, project_id_of(instance), action, sorted(update_fields or ()))


def record_deletion(instance: models.Model, **_: Any) -> None:
    """Record a deletion. The entries of a deleted project are deleted, except for that of its deletion."""
    project_id = project_id_of(instance)
    if is_project(instance):
        AuditEntry.objects.filter(project=project_id).delete()
        project_id = None
    record(instance, project_id, Action.DELETED, ())


def record(
    instance: models.Model, project_id: int | None, action: Action, fields: Collection[str]
) -> AuditEntry:
    actor = current_actor.get()()
    return AuditEntry.objects.create(
        project_id=project_id,
        actor=actor.label,
        via=actor.via,
        address=actor.address,
        action=action,
        model=str(instance._meta.verbose_name),
        subject=text_of(instance)[:MAX_SUBJECT_LENGTH],
        fields=list(fields),
    )


def text_of(instance: models.Model) -> str:
    """Return the text of a row, or its id if the text names a row that was deleted with it."""
    try:
        return str(instance)
    except ObjectDoesNotExist:
        return str(instance.pk)


def project_id_of(instance: models.Model) -> int | None:
    """Return the id of the project to which a row belongs; None if it belongs to none."""
    project_id: int | None = instance.pk if is_project(instance) else getattr(instance, "project_id", None)
    return project_id


def is_project(instance: models.Model) -> bool:
    return instance._meta.label == "projects.Project"
