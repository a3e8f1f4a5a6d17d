"""Price overrides: prices that a project or the operator sets to replace bundled prices."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.money import NANO, format_usd
from billing.pricing import Fee, Price, Rates
from projects.models import Project, audited, invalidates_config_cache

MAX_RATE_NANO = 10**6 * NANO
"""The maximum rate: one million dollars for a million tokens or for one call. It catches typing errors."""
TOOL_KIND_PATTERN = re.compile(r"[a-z0-9_]{1,40}")
PER_MILLION_HELP = "Nano-USD per million tokens."


def validate_model_pattern(model: str) -> None:
    if "*" in model[:-1]:
        raise ValidationError("The wildcard * is only allowed at the end of a model name.")


def validate_tool_fees(fees: Any) -> None:
    if not isinstance(fees, dict):
        raise ValidationError("Tool fees must be an object keyed by tool kind.")
    for kind, nano in fees.items():
        if not TOOL_KIND_PATTERN.fullmatch(str(kind)):
            raise ValidationError(
                f"{kind} is not a valid tool kind. Use lower-case letters, digits and underscores, as in "
                "web_search."
            )
        if not isinstance(nano, int) or isinstance(nano, bool) or not 0 <= nano <= MAX_RATE_NANO:
            raise ValidationError(f"The fee of {kind} must be between 0 and {format_usd(MAX_RATE_NANO)}.")


def money_field(verbose_name: str, help_text: str, **options: Any) -> "models.BigIntegerField[Any, Any]":
    validators = [MinValueValidator(0), MaxValueValidator(MAX_RATE_NANO)]
    return models.BigIntegerField(verbose_name, help_text=help_text, validators=validators, **options)


def defaults_to(other: str) -> dict[str, Any]:
    return {"null": True, "blank": True, "help_text": f"{PER_MILLION_HELP} Empty: {other}."}


class PriceOverrideQuerySet(models.QuerySet["PriceOverride"]):
    def for_project(self, project: Project) -> "PriceOverrideQuerySet":
        """Select the prices that the project has set, from new to old."""
        return self.filter(project=project).order_by("-effective_from", "-pk")

    def for_operator(self) -> "PriceOverrideQuerySet":
        """Select the prices that the operator has set for all projects, from new to old."""
        return self.filter(project=None, file_issued_at=None).order_by("-effective_from", "-pk")

    def from_file(self) -> "PriceOverrideQuerySet":
        """Select the prices of imported price files, from new to old."""
        return self.filter(project=None).exclude(file_issued_at=None).order_by("-effective_from", "-pk")


@audited
@invalidates_config_cache
class PriceOverride(models.Model):
    """The price of a model that a project or the operator has set.

    It applies from `effective_from` until `ended_at`, or until the next override of the same pattern starts.
    It replaces the whole bundled price, for every service tier and prompt length. A model whose rates are 0
    is free, and a hard budget allows it. A model without a price is denied by a hard budget. Ended rows are
    kept, so that past requests can be repriced.
    """

    project = models.ForeignKey(
        Project,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="price_overrides",
        help_text="Empty: all projects.",
    )
    provider = models.CharField(
        max_length=60, blank=True, help_text="A provider, or the name of a credential. Empty: any."
    )
    model = models.CharField(
        max_length=200,
        validators=[validate_model_pattern],
        help_text="The provider's name of the model. A * at the end matches any rest of a name: llama-*.",
    )
    effective_from = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    file_issued_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When the price file was issued that has this price. Empty: a person has set it.",
    )
    input_nano = money_field("input", PER_MILLION_HELP)
    output_nano = money_field("output", PER_MILLION_HELP)
    cache_read_nano = money_field("cached input", **defaults_to("same as input"))
    cache_write_5m_nano = money_field("input written to a 5-minute cache", **defaults_to("same as input"))
    cache_write_1h_nano = money_field("input written to a 1-hour cache", **defaults_to("same as input"))
    cache_write_12h_nano = money_field(
        "input written to a 12-hour cache", **defaults_to("twice that of a 5-minute cache")
    )
    reasoning_nano = money_field("reasoning", **defaults_to("same as other output"))
    request_nano = money_field("each request", "Nano-USD.", default=0)
    tool_fees = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_tool_fees],
        help_text="Nano-USD per call, by kind of tool.",
    )

    objects = PriceOverrideQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="prices_not_negative",
                condition=Q(input_nano__gte=0) & Q(output_nano__gte=0) & Q(request_nano__gte=0),
            )
        ]

    def __str__(self) -> str:
        return f"{self.pattern} from {self.effective_from:%Y-%m-%d %H:%M}"

    @property
    def pattern(self) -> str:
        return f"{self.provider}/{self.model}" if self.provider else self.model

    @property
    def is_planned(self) -> bool:
        return self.ended_at is None and self.effective_from > timezone.now()

    def end_now(self) -> None:
        """End this price now. A price that has not started yet ends at its start, so it never applies."""
        self.ended_at = max(timezone.now(), self.effective_from)
        self.save(update_fields=["ended_at"])

    @property
    def source(self) -> str:
        """The origin of the price, as usage records store it."""
        if self.project_id:
            return "the project's own price"
        return "the operator's price" if self.file_issued_at is None else "a price file"

    def price(self) -> Price:
        rates = Rates(
            self.input_nano,
            self.or_input_rate(self.cache_read_nano),
            self.or_input_rate(self.cache_write_5m_nano),
            self.or_input_rate(self.cache_write_1h_nano),
            self.output_nano,
            self.reasoning_nano,
            self.cache_write_12h_nano,
        )
        fees = tuple(Fee(kind, nano) for kind, nano in sorted(self.tool_fees.items()))
        return Price(
            base=rates,
            source=f"{self.source} #{self.pk}",
            request_fee_nano=self.request_nano,
            extra_fees=fees,
        )

    def or_input_rate(self, rate: int | None) -> int:
        return self.input_nano if rate is None else rate
