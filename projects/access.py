"""Access control of the dashboard: `project_view` checks a person's role in a project."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase

from projects.models import Membership, Project, Role, User

View = Callable[..., HttpResponseBase]


class SignedInRequest(HttpRequest):
    """The request of a view behind `login_required`."""

    user: User


class ProjectRequest(SignedInRequest):
    """The request of a view behind `project_view`."""

    role: Role
    project: Project


def project_view(role: Role) -> Callable[[View], View]:
    """Pass the project to the view as its second argument, in place of the slug in the URL.

    Non-members get a 404, members below `role` a 403. The member's role is in `request.role`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        @login_required
        def checked(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            request = cast(ProjectRequest, request)
            membership = find_membership(request.user, slug)
            if membership.role < role:
                raise PermissionDenied
            request.role, request.project = Role(membership.role), membership.project
            return view(request, membership.project, *args, **kwargs)

        checked.required_role = role  # type: ignore[attr-defined]
        return checked

    return decorate


def find_membership(user: User, slug: str) -> Membership:
    """Return the user's membership of the project with this slug; raise Http404 if there is none."""
    membership = Membership.objects.select_related("project").filter(project__slug=slug, user=user).first()
    if membership is None:
        raise Http404
    return membership
