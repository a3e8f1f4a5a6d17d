"""The version number of the configuration that gateway processes hold in memory."""

import time
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

ModelT = TypeVar("ModelT", bound=type[models.Model])


class ConfigVersion(models.Model):
    """Version number in a single row, which changes with every change of cached configuration.

    Gateway processes poll it (`projects/config_cache.py`).
    """

    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def bump(cls) -> None:
        """Change the version in the caller's transaction, so that it is visible with the change itself."""
        # A timestamp, because a count would repeat after the database is restored or emptied.
        cls.objects.filter(pk=1).update(version=time.time_ns())

    @classmethod
    def current(cls) -> int | None:
        return cls.objects.filter(pk=1).values_list("version", flat=True).first()


def invalidates_config_cache(model: ModelT) -> ModelT:
    """Change the config version whenever a row of this model is saved or deleted, in one transaction.

    Django sends `post_delete` in the transaction of the deletion, but `post_save` after the commit, unless
    the caller has opened a transaction. If the process died between the two, other processes would accept a
    revoked key until the next change.
    """

    def bump(**_: Any) -> None:
        ConfigVersion.bump()

    post_save.connect(bump, sender=model, weak=False)
    post_delete.connect(bump, sender=model, weak=False)
    model.save_base = transaction.atomic(savepoint=False)(model.save_base)  # type: ignore[method-assign]
    return model
