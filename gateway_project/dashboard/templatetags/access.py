"""Template tags for permissions."""

from django import template
from django.http import HttpRequest

from projects.models import Role
from projects.signup import AccountAdapter

register = template.Library()


@register.filter
def at_least(role: Role | None, name: str) -> bool:
    """Return whether a role is at least the role `name`: `{% if role|at_least:"ADMIN" %}`.

    The result is False if there is no role (None).
    """
    return role is not None and role >= Role[name]


@register.simple_tag
def signup_is_open(request: HttpRequest) -> bool:
    return AccountAdapter().is_open_for_signup(request)
