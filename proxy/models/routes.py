"""Routes of projects: names of models, and the targets that serve them."""

import msgspec
from django.db import models

from projects.models import Project, audited, invalidates_config_cache
from proxy.models.route_definitions import (
    MAX_RETRY_ATTEMPTS,
    MAX_RETRY_DELAY_MS,
    RouteDefinition,
    TargetDefinition,
)

MAX_NAME_LENGTH = 200
STRATEGIES = [
    ("ordered", "Ordered: the first target that works"),
    ("weighted", "Weighted: at random by weight"),
    ("cheapest", "Cheapest: by the estimated cost of the request"),
    ("least_latency", "Least latency: by the time until the response starts"),
]


class RouteQuerySet(models.QuerySet["Route"]):
    """Queries of routes."""

    def for_project(self, project: Project) -> "RouteQuerySet":
        """Return the routes of a project by name."""
        return self.filter(project=project).order_by("name", "pk")


@audited
@invalidates_config_cache
class Route(models.Model):
    """A model's name in a project, which precedes all other names.

    `targets`, `fallbacks` and `rule` are those of a `RouteDefinition`. Several routes can have the same name
    if they have rules.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="routes")
    name = models.CharField(max_length=MAX_NAME_LENGTH, help_text="The model’s name in requests.")
    strategy = models.CharField(max_length=20, choices=STRATEGIES, default="ordered")
    targets = models.JSONField(default=list)
    fallbacks = models.JSONField(default=list, blank=True)
    rule = models.JSONField(default=dict, blank=True)
    retry_attempts = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text=f"0 to {MAX_RETRY_ATTEMPTS}. Empty: the gateway’s setting."
    )
    retry_delay_ms = models.PositiveIntegerField(
        "retry delay in milliseconds",
        null=True,
        blank=True,
        help_text=f"Up to {MAX_RETRY_DELAY_MS}. Empty: the gateway’s setting.",
    )
    retries_context_length = models.BooleanField(
        "call the next target if a prompt is too long for a model", default=False
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RouteQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} of {self.project}"

    def definition(self) -> RouteDefinition:
        """Return the definition of the route. Raises msgspec.ValidationError for values out of range."""
        fields = (
            *("name", "targets", "fallbacks", "strategy", "rule", "retry_attempts", "retry_delay_ms"),
            "retries_context_length",
        )
        return msgspec.convert({name: getattr(self, name) for name in fields}, RouteDefinition)

    def target_definitions(self) -> tuple[TargetDefinition, ...]:
        """Return the targets."""
        return self.definition().targets
