"""The version number of the configuration that gateway processes hold in memory."""

import time
from typing import Any, TypeVar

from django.db import models
from django.db.models.signals import post_delete, post_save

ModelT = TypeVar("ModelT", bound=type[models.Model])


class ConfigVersion(models.Model):
    """One row. It moves whenever configuration that gateway processes cache has changed (`config_cache.py`)."""

    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def bump(cls) -> None:
        """Tells every gateway process; part of the caller's transaction, so that it shows with the change itself."""
        # A moment rather than a count: a database that is restored or emptied never shows an earlier number again.
        cls.objects.filter(pk=1).update(version=time.time_ns())

    @classmethod
    def current(cls) -> int | None:
        return cls.objects.filter(pk=1).values_list("version", flat=True).first()


def invalidates_config_cache(model: ModelT) -> ModelT:
    """Marks a model that gateway processes keep in memory: saving or deleting a row moves the config version."""

    def bump(**_: Any) -> None:
        ConfigVersion.bump()

    post_save.connect(bump, sender=model, weak=False)
    post_delete.connect(bump, sender=model, weak=False)
    return model
