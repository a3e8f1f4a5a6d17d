"""Base classes of the views: authentication, throttle, and the rules of access to a project."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import MethodNotAllowed, NotAuthenticated, UnsupportedMediaType
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from gateway_project.api.authentication import BearerAuthentication, PageAuthentication
from gateway_project.api.callers import Caller
from gateway_project.api.envelope import (
    JsonParser,
    JsonRenderer,
    choose_request_id,
    handle_exception,
)
from gateway_project.api.serializers import Input
from gateway_project.api.throttle import ApiThrottle
from gateway_project.dashboard.audit import address_of
from projects.models import Actor, Project, Role, current_actor

ModelT = TypeVar("ModelT", bound=Model)
InputT = TypeVar("InputT", bound=Input)
PAGE_PARAMETERS = [
    OpenApiParameter("limit", int, description="The maximum number of items of the page: 1 to 200."),
    OpenApiParameter("cursor", str, description="`nextCursor` of the page before."),
]


@dataclass(frozen=True, slots=True)
class Rule:
    """The requirements of a method: the lowest role, and scopes, of which the caller needs one."""

    role: Role
    scopes: tuple[str, ...]

    def check_scope(self, caller: Caller) -> None:
        """Raise PermissionDenied if the caller has none of the scopes."""
        if not any(caller.allows(scope) for scope in self.scopes):
            raise PermissionDenied(f"This needs the scope {' or '.join(self.scopes)}.")


class OnlyJson(BaseContentNegotiation):
    """Ignores `Accept` and `Content-Type`: bodies and responses are JSON."""

    def select_parser(self, request: Request, parsers: list[JsonParser]) -> JsonParser:
        """Return the parser."""
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: list[JsonRenderer], format_suffix: str | None = None
    ) -> tuple[JsonRenderer, str]:
        """Return the renderer and its media type."""
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """A view of the REST API. `rules` has an entry for each of its methods."""

    authentication_classes = (BearerAuthentication, PageAuthentication)
    permission_classes = ()
    throttle_classes = (ApiThrottle,)
    parser_classes = (JsonParser,)
    renderer_classes = (JsonRenderer,)
    content_negotiation_class = OnlyJson
    rules: ClassVar[Mapping[str, Rule]] = {}
    is_open: ClassVar[bool] = False
    """Whether the view itself decides what requests without authentication may do."""
    request_id = ""

    @property
    def caller(self) -> Caller:
        """The caller. Raises NotAuthenticated for a request without authentication."""
        if self.request.auth is None:
            raise NotAuthenticated
        return cast(Caller, self.request.auth)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Choose the id of the request before anything can fail."""
        self.request_id = choose_request_id(request.headers.get("x-request-id", ""))
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the caller, count the request, and check the rule of its method."""
        if request.content_type.startswith("multipart/"):
            raise UnsupportedMediaType(request.content_type, "Send the body as JSON.")
        super().initial(request, *args, **kwargs)
        if request.auth is not None:
            actor = Actor(self.caller.label, self.caller.kind, address_of(request))
            current_actor.set(lambda: actor)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self.rules:
            raise MethodNotAllowed(request.method)
        if not self.is_open:
            self.check_access(self.rules[method], **kwargs)

    def check_access(self, rule: Rule, **kwargs: Any) -> None:
        """Raise PermissionDenied if the caller lacks the scope."""
        rule.check_scope(self.caller)

    def read(self, input_class: type[InputT], *, partial: bool = False) -> InputT:
        """Return the body, whose types are valid. Raises ValidationError."""
        body = input_class(data=self.request.data, partial=partial, context=self.body_context())
        body.is_valid(raise_exception=True)
        return body

    def body_context(self) -> dict[str, Any]:
        """Return what the fields of a body need to know."""
        return {}

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that the header Allow names."""
        return sorted(self.rules)

    def get_exception_handler(self) -> Callable[..., Response]:
        """Return the handler that puts errors into the envelope."""
        return handle_exception

    def set_rollback(self) -> None:
        """Roll back a transaction that Django opened for the request."""
        set_rollback()

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Add the headers of all responses."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["x-request-id"] = self.request_id
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class ProjectView(ApiView):
    """A view of one project, whose slug is in the path. Its subclasses do not look up projects themselves."""

    project: Project
    role: Role

    def check_access(self, rule: Rule, **kwargs: Any) -> None:
        """Set the project and the role. Raises Http404 for outsiders, PermissionDenied for other members."""
        self.enter(kwargs["slug"], rule)

    def body_context(self) -> dict[str, Any]:
        """Return the project."""
        return {"project": self.project}

    def enter(self, slug: str, rule: Rule) -> None:
        access = self.caller.access(slug)
        rule.check_scope(self.caller)
        access.require(rule.role)
        self.project, self.role = access.project, access.role


def find(rows: "QuerySet[ModelT]", **lookup: Any) -> ModelT:
    """Return the row of a project. Raises Http404, also for values that no row can have."""
    if any("\x00" in value for value in lookup.values() if isinstance(value, str)):
        raise Http404
    found = rows.filter(**lookup).first()
    if found is None:
        raise Http404
    return found


def documented(
    operation_id: str,
    response: Any,
    *,
    body: Any = None,
    status: int = 200,
    parameters: list[OpenApiParameter] | None = None,
) -> Any:
    """Return a decorator that describes a method in the OpenAPI document."""
    return extend_schema(
        operation_id=operation_id, request=body, responses={status: response}, parameters=parameters or []
    )


class NotFoundView(ApiView):
    """Responds with 404 to unknown paths below the paths of the REST API, for every method."""

    schema = None
    is_open = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Raise Http404."""
        raise Http404
