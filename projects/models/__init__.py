"""Tenancy: users, projects, memberships, and the version of their configuration."""

from projects.models.audit import Actor, AuditEntry, audited, current_actor
from projects.models.config_version import ConfigVersion, invalidates_config_cache
from projects.models.invitations import Invitation
from projects.models.projects import (
    ANONYMOUS_SLUG,
    DEMO_SLUG,
    MAX_DATE,
    NON_GEOGRAPHIC_TIMEZONES,
    RESERVED_SLUGS,
    Membership,
    Project,
    ProjectQuerySet,
    Role,
    validate_timezone,
)
from projects.models.rate_limits import RateLimits
from projects.models.users import User, UserManager

__all__ = [
    "ANONYMOUS_SLUG",
    "DEMO_SLUG",
    "MAX_DATE",
    "NON_GEOGRAPHIC_TIMEZONES",
    "RESERVED_SLUGS",
    "Actor",
    "AuditEntry",
    "ConfigVersion",
    "Invitation",
    "Membership",
    "Project",
    "ProjectQuerySet",
    "RateLimits",
    "Role",
    "User",
    "UserManager",
    "audited",
    "current_actor",
    "invalidates_config_cache",
    "validate_timezone",
]
