"""Middleware that says who acts in a request, for the audit entries of changes."""

from django.http import HttpRequest, HttpResponse

from gateway_project.dashboard.security import GetResponse
from projects.models import Actor, current_actor
from proxy.http.client_ip import client_ip


class AuditActor:
    """Makes the signed-in user the actor of all changes in the request.

    The management API replaces the actor if a token or an API key authenticates the request.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The user is looked up only if there is a change, because it may need a query.
        token = current_actor.set(lambda: actor_of(request))
        try:
            return self.get_response(request)
        finally:
            current_actor.reset(token)


def actor_of(request: HttpRequest) -> Actor:
    label = request.user.email if request.user.is_authenticated else ""
    return Actor(label, "session", address_of(request))


def address_of(request: HttpRequest) -> str:
    """Return the client's address, as the gateway routes see it."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").encode("latin-1", "replace")
    peer = request.META.get("REMOTE_ADDR", "")
    return client_ip({"client": (peer, 0), "headers": [(b"x-forwarded-for", forwarded)]})
