"""The version number of the configuration that gateway processes cache."""

import time
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

ModelT = TypeVar("ModelT", bound=type[models.Model])


class ConfigVersion(models.Model):
    """A single row whose version number changes whenever cached configuration changes.

    Gateway processes poll it (`projects/config_cache.py`).
    """

    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def bump(cls) -> None:
        """Change the version. In the caller's transaction, it becomes visible together with the change."""
        # A timestamp, because a counter would repeat numbers after the database is restored or emptied.
        cls.objects.filter(pk=1).update(version=time.time_ns())

    @classmethod
    def current(cls) -> int | None:
        return cls.objects.filter(pk=1).values_list("version", flat=True).first()


def invalidates_config_cache(model: ModelT) -> ModelT:
    """Change the config version whenever a row of this model is saved or deleted, in the same transaction.

    `save_base` is made atomic because Django otherwise commits a save before it sends `post_save`. If the
    process died between the two, other processes would accept a revoked key until the next change. Deletions
    need no such measure: Django sends `post_delete` inside their transaction.
    """

    def bump(**_: Any) -> None:
        ConfigVersion.bump()

    post_save.connect(bump, sender=model, weak=False)
    post_delete.connect(bump, sender=model, weak=False)
    model.save_base = transaction.atomic(savepoint=False)(model.save_base)  # type: ignore[method-assign]
    return model
