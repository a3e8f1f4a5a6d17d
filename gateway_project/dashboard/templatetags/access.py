"""What the person at the page may do."""

from django import template
from django.http import HttpRequest

from projects.models import Role
from projects.signup import AccountAdapter

register = template.Library()


@register.filter
def at_least(role: Role | None, name: str) -> bool:
    """`{% if role|at_least:"ADMIN" %}`; nobody is at least anything."""
    return role is not None and role >= Role[name]


@register.simple_tag
def signup_is_open(request: HttpRequest) -> bool:
    return AccountAdapter().is_open_for_signup(request)
