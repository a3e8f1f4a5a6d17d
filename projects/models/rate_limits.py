"""Rate limits as columns, shared by projects and API keys."""

from django.core.validators import MinValueValidator
from django.db import models


class RateLimits(models.Model):
    """Limits within any 60 seconds, and of concurrent requests. Empty: no limit."""

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
