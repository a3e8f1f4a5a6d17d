"""Projects, which are the tenants, and the roles of their members."""

import datetime as dt
import re
import secrets
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.text import slugify

from projects.models.audit import audited
from projects.models.config_version import invalidates_config_cache
from projects.models.rate_limits import RateLimits
from projects.models.users import User

SLUG_SUFFIX_BYTES = 3
DEMO_SLUG = "demo"
ANONYMOUS_SLUG = "anonymous"
"""The project of callers without a key, if AI_GATEWAY_AUTH is `open`."""
RESERVED_SLUGS = ("new", "api-keys", ANONYMOUS_SLUG)
"""Slugs that users cannot choose. URLs contain the first two, and the gateway uses the last."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:_\[\]-]+")
MAX_DATE = dt.date(9000, 12, 31)
"""The last date that forms accept.

In some timezones, midnights near the end of the year 9999 are out of the range of datetime.
"""


class Role(models.IntegerChoices):
    """The roles of members, in ascending order. Each role includes the rights of all lower roles."""

    VIEWER = 10
    MEMBER = 20
    ADMIN = 30
    OWNER = 40


NON_GEOGRAPHIC_TIMEZONES = {"localtime", "Factory"}
"""Timezone names without a place. On another machine, they can mean another timezone."""


def validate_timezone(name: str) -> None:
    if name not in available_timezones() - NON_GEOGRAPHIC_TIMEZONES:
        raise ValidationError(f"{name} is not an IANA timezone.")


def validate_origins(origins: list[str]) -> None:
    """Raise ValidationError for a text that no browser sends as an origin."""
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise ValidationError(
                f"{origin} is not an origin: write the scheme, the host, and an unusual port, in lower case, "
                "such as https://app.example.org, without a path."
            )


class ProjectQuerySet(models.QuerySet["Project"]):
    def for_user(self, user: User) -> "ProjectQuerySet":
        return self.filter(memberships__user=user).order_by("name", "pk")

    @transaction.atomic
    def create_with_owner(self, name: str, owner: User | None = None, **fields: Any) -> "Project":
        """Create a project with a unique slug, and make `owner` its owner."""
        project = self.create(name=name, slug=fields.pop("slug", None) or self.unique_slug(name), **fields)
        if owner is not None:
            project.memberships.create(user=owner, role=Role.OWNER)
        return project

    def unique_slug(self, name: str) -> str:
        slug = slugify(name)[:40] or "project"
        while slug in RESERVED_SLUGS or self.filter(slug=slug).exists():
            slug = f"{slugify(name)[:40] or 'project'}-{secrets.token_hex(SLUG_SUFFIX_BYTES)}"
        return slug


@audited
@invalidates_config_cache
class Project(RateLimits):
    """A tenant. Every key, credential, budget and record belongs to exactly one project."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=60, unique=True)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="Days and months of budgets and reports start at midnight in this timezone.",
    )
    uses_operator_credentials = models.BooleanField(
        default=False,
        help_text="May use the operator's own provider keys, set in the environment. "
        "Only operators can allow this.",
    )
    accepts_provider_keys = models.BooleanField(
        "callers may send their own provider key",
        default=False,
        help_text="A request may carry the caller's own key for the provider in the header "
        "x-gateway-provider-key. The gateway does not store it. Budgets and rate limits still apply.",
    )
    caches_responses = models.BooleanField(
        "cache responses",
        default=False,
        help_text="Answer repeated requests from the response cache, unless a request says otherwise.",
    )
    cache_ttl_s = models.PositiveIntegerField(
        "lifetime of cached responses",
        default=3600,
        validators=[MinValueValidator(60), MaxValueValidator(86_400)],
        help_text="In seconds, from 60 to 86400.",
    )
    allowed_origins = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_origins],
        help_text="Web pages of these origins may call the gateway with keys of the project.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def tzinfo(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def today(self) -> dt.date:
        return timezone.localdate(timezone=self.tzinfo)

    def end_of_day(self, day: dt.date) -> dt.datetime:
        """Return the time at which a day ends in the project's timezone."""
        return dt.datetime.combine(day + dt.timedelta(days=1), dt.time.min, tzinfo=self.tzinfo)


@audited
class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.PositiveSmallIntegerField(choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="unique_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.project} as {self.get_role_display()}"

    @transaction.atomic
    def change_role(self, role: Role, *, granted_by: Role) -> None:
        """Change the role.

        Raises PermissionDenied if the old or the new role is above the role `granted_by`, and ValidationError
        if the project would have no owner.
        """
        if max(role, self.role) > granted_by:
            raise PermissionDenied("You cannot change or grant a role above your own.")
        if role != Role.OWNER:
            self.check_other_owner()
        self.role = role
        self.save(update_fields=["role"])

    @transaction.atomic
    def remove(self, *, removed_by: Role) -> None:
        """Remove the member. Raises the same errors as `change_role`."""
        if self.role > removed_by:
            raise PermissionDenied("You cannot remove a member with a role above your own.")
        self.check_other_owner()
        self.delete()

    def check_other_owner(self) -> None:
        """Raise ValidationError if this is the only owner. Locks the owners until the transaction ends."""
        owners = Membership.objects.select_for_update().filter(project=self.project_id, role=Role.OWNER)
        if [owner.pk for owner in owners] == [self.pk]:
            raise ValidationError("A project must have an owner. Make another member an owner first.")
