"""Access to projects. Pages use `project_view`, the REST API `access_of_user` and `access_of_key`."""

from collections.abc import Callable
from dataclasses import dataclass
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
            access = access_of_user(request.user, slug)
            access.require(role)
            request.role, request.project = access.role, access.project
            return view(request, access.project, *args, **kwargs)

        checked.required_role = role  # type: ignore[attr-defined]
        return checked

    return decorate


@dataclass(frozen=True, slots=True)
class ProjectAccess:
    """A project that a caller may see, and the caller's role in it."""

    project: Project
    role: Role

    def require(self, role: Role) -> None:
        """Raise PermissionDenied if the caller's role is lower."""
        if self.role < role:
            raise PermissionDenied


def access_of_user(user: User, slug: str) -> ProjectAccess:
    """Return the user's access to the project with this slug. Raises Http404 if there is none."""
    membership = Membership.objects.select_related("project").filter(project__slug=slug, user=user).first()
    if membership is None:
        raise Http404
    return ProjectAccess(membership.project, Role(membership.role))


def access_of_operator(slug: str) -> ProjectAccess:
    """Return an operator's access to any project. Raises Http404 if no project has this slug."""
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        raise Http404
    return ProjectAccess(project, Role.OWNER)


def access_of_key(own_project: Project, slug: str) -> ProjectAccess:
    """Return an API key's access to its own project. Raises Http404 for any other slug."""
    if own_project.slug != slug:
        raise Http404
    return ProjectAccess(own_project, Role.ADMIN)
