"""Abstract model of the columns for rate limits, which projects and API keys both have."""

from django.core.validators import MinValueValidator
from django.db import models


class RateLimits(models.Model):
    """Limits on the requests and tokens in any 60 seconds, and on concurrent requests.

    If a column is null, there is no limit. For API keys, the default of `rpm_limit` is
    AI_GATEWAY_RATE_LIMIT_RPM.
    """

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
