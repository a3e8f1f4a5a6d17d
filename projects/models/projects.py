"""Tenancy: who belongs to which project, in which role."""

import datetime as dt
import secrets
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.text import slugify

from projects.models.config_version import invalidates_config_cache
from projects.models.rate_limits import RateLimits
from projects.models.users import User

SLUG_SUFFIX_BYTES = 3
DEMO_SLUG = "demo"
RESERVED_SLUGS = ("new",)
"""Words that stand where a slug could in the addresses of pages."""
MAX_DATE = dt.date(9000, 12, 31)
"""Days are not counted to the end of the calendar: a midnight near it is in no year at all in some timezones."""


class Role(models.IntegerChoices):
    """Ordered: a role may do all that a lower one may."""

    VIEWER = 10
    MEMBER = 20
    ADMIN = 30
    OWNER = 40


NON_GEOGRAPHIC_TIMEZONES = {"localtime", "Factory"}
"""What the machine is set to, and what it is before it is set to anything: another one may take them for another time."""


def validate_timezone(name: str) -> None:
    if name not in available_timezones() - NON_GEOGRAPHIC_TIMEZONES:
        raise ValidationError(f"{name} is not an IANA timezone.")


class ProjectQuerySet(models.QuerySet["Project"]):
    def for_user(self, user: User) -> "ProjectQuerySet":
        return self.filter(memberships__user=user).order_by("name", "pk")

    @transaction.atomic
    def create_with_owner(self, name: str, owner: User | None = None, **fields: Any) -> "Project":
        """A new project under a slug of its own, with its owner."""
        project = self.create(name=name, slug=fields.pop("slug", None) or self.unique_slug(name), **fields)
        if owner is not None:
            project.memberships.create(user=owner, role=Role.OWNER)
        return project

    def unique_slug(self, name: str) -> str:
        slug = slugify(name)[:40] or "project"
        while slug in RESERVED_SLUGS or self.filter(slug=slug).exists():
            slug = f"{slugify(name)[:40] or 'project'}-{secrets.token_hex(SLUG_SUFFIX_BYTES)}"
        return slug


@invalidates_config_cache
class Project(RateLimits):
    """A tenant: keys, credentials, budgets and records belong to exactly one."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=60, unique=True)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="Days and months of budgets and reports begin here.",
    )
    uses_operator_credentials = models.BooleanField(
        default=False,
        help_text="May spend the operator's own provider keys, set in the environment. Only operators can allow this.",
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
        """The moment at which a day of this project ends."""
        return dt.datetime.combine(day + dt.timedelta(days=1), dt.time.min, tzinfo=self.tzinfo)


class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.PositiveSmallIntegerField(choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="unique_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.project} as {self.get_role_display()}"
