"""Prices that a project or the operator sets, in place of the bundled ones."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.money import NANO, format_usd
from billing.pricing import Fee, Price, Rates
from projects.models import Project, invalidates_config_cache

MAX_RATE_NANO = 10**6 * NANO
"""A million dollars, for a million tokens or for one call: more is a slip of the pen."""
TOOL_KIND_PATTERN = re.compile(r"[a-z0-9_]{1,40}")
PER_MILLION_HELP = "Nano-USD per million tokens."


def validate_model_pattern(model: str) -> None:
    if "*" in model[:-1]:
        raise ValidationError("A star stands only at the end, for any rest of a name.")


def validate_tool_fees(fees: Any) -> None:
    if not isinstance(fees, dict):
        raise ValidationError("Fees stand by the kind of tool.")
    for kind, nano in fees.items():
        if not TOOL_KIND_PATTERN.fullmatch(str(kind)):
            raise ValidationError(f"{kind} is no kind of tool: write web_search, file_search or the like.")
        if not isinstance(nano, int) or isinstance(nano, bool) or not 0 <= nano <= MAX_RATE_NANO:
            raise ValidationError(f"The fee of {kind} must lie between 0 and {format_usd(MAX_RATE_NANO)}.")


def money_field(verbose_name: str, help_text: str, **options: Any) -> "models.BigIntegerField[Any, Any]":
    validators = [MinValueValidator(0), MaxValueValidator(MAX_RATE_NANO)]
    return models.BigIntegerField(verbose_name, help_text=help_text, validators=validators, **options)


def defaults_to(other: str) -> dict[str, Any]:
    return {"null": True, "blank": True, "help_text": f"{PER_MILLION_HELP} Empty: as {other}."}


class PriceOverrideQuerySet(models.QuerySet["PriceOverride"]):
    def for_project(self, project: Project) -> "PriceOverrideQuerySet":
        """Its own, the newest first."""
        return self.filter(project=project).order_by("-effective_from", "-pk")

    def for_operator(self) -> "PriceOverrideQuerySet":
        """Those that hold for all projects, the newest first."""
        return self.filter(project=None).order_by("-effective_from", "-pk")


@invalidates_config_cache
class PriceOverride(models.Model):
    """What a model costs from a moment on, until the next one for the same names begins or this one is ended.

    It stands for the whole price, in every service tier and for prompts of any length. Rates of 0 mean that the model is free: it is
    then priced at nothing, which a key with a budget may use. Rows are kept when they have ended: what a request cost in the past can be
    reckoned again.
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
        help_text="As the provider calls it. A star at the end stands for any rest: llama-*.",
    )
    effective_from = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    input_nano = money_field("input", PER_MILLION_HELP)
    output_nano = money_field("output", PER_MILLION_HELP)
    cache_read_nano = money_field("input read from a cache", **defaults_to("input"))
    cache_write_5m_nano = money_field("input written to a cache for 5 minutes", **defaults_to("input"))
    cache_write_1h_nano = money_field("input written to a cache for an hour", **defaults_to("input"))
    reasoning_nano = money_field("reasoning", **defaults_to("other output"))
    request_nano = money_field("each request", "Nano-USD.", default=0)
    tool_fees = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_tool_fees],
        help_text="Nano-USD for a call, by kind of tool.",
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
        """From now on it holds no more; one that has not begun never will."""
        self.ended_at = max(timezone.now(), self.effective_from)
        self.save(update_fields=["ended_at"])

    def price(self) -> Price:
        source = "the project's own price" if self.project_id else "the operator's price"
        rates = Rates(
            self.input_nano,
            self.or_input_rate(self.cache_read_nano),
            self.or_input_rate(self.cache_write_5m_nano),
            self.or_input_rate(self.cache_write_1h_nano),
            self.output_nano,
            self.reasoning_nano,
        )
        tools = tuple(Fee(kind, nano) for kind, nano in sorted(self.tool_fees.items()))
        return Price(
            base=rates, source=f"{source} #{self.pk}", request_fee_nano=self.request_nano, extra_fees=tools
        )

    def or_input_rate(self, rate: int | None) -> int:
        return self.input_nano if rate is None else rate
