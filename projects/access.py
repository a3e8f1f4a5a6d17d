"""The one place where a person's access to a project is decided."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase

from projects.models import Membership, Role

View = Callable[..., HttpResponseBase]


def project_view(role: Role) -> Callable[[View], View]:
    """Gives the view its project as the second argument, in place of the slug in the address.

    To who is no member the project does not exist (404). A member of a lower role than `role` is refused (403).
    The role that was found is at `request.role`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        @login_required
        def checked(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            membership = (
                Membership.objects.select_related("project")
                .filter(project__slug=slug, user=request.user.pk)
                .first()
            )
            if membership is None:
                raise Http404
            if membership.role < role:
                raise PermissionDenied
            request.role = Role(membership.role)  # type: ignore[attr-defined]
            request.project = membership.project  # type: ignore[attr-defined]
            return view(request, membership.project, *args, **kwargs)

        checked.required_role = role  # type: ignore[attr-defined]
        return checked

    return decorate
