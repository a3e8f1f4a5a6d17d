"""Rate limits as columns, for the models that have them."""

from django.core.validators import MinValueValidator
from django.db import models


class RateLimits(models.Model):
    """How much may be asked in any 60 seconds, and at once. Empty: no limit."""

    rpm_limit = models.PositiveIntegerField(
        "requests per minute", null=True, blank=True, validators=[MinValueValidator(1)]
    )
    tpm_limit = models.PositiveBigIntegerField(
        "tokens per minute", null=True, blank=True, validators=[MinValueValidator(1)]
    )
    concurrency_limit = models.PositiveIntegerField(
        "requests at once", null=True, blank=True, validators=[MinValueValidator(1)]
    )

    class Meta:
        abstract = True
