"""Routes of a project: names of models, and the targets that serve them."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import (
    ONE_LINE,
    Flag,
    Input,
    Integer,
    PatternText,
    Serializer,
    Text,
    TextList,
)
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from projects.models import Role
from proxy.models import Route
from proxy.models.routes import STRATEGIES
from proxy.routing.routes.forms import CAPABILITIES, RouteForm, pair_lines, target_line

MANAGE = ("project:manage",)
READ, WRITE = Rule(Role.MEMBER, MANAGE), Rule(Role.ADMIN, MANAGE)
WITHOUT_SPACE = r"^\S*$"


class Target(Serializer):
    """A target: a provider or credential, the name of the model there, a weight, and a timeout (`60s`)."""

    provider = PatternText(r"^[^\s/]+$", max_length=60)
    model = PatternText(WITHOUT_SPACE, max_length=200, required=False, allow_blank=True)
    weight = Integer(required=False, min_value=1, max_value=1000)
    timeout = PatternText(r"^\S+$", max_length=20, required=False)


class TargetLines(serializers.ListField):
    """Targets, which the form expects as lines."""

    child = Target()

    def to_internal_value(self, data: Any) -> list[str]:
        """Return the targets as lines."""
        targets = super().to_internal_value(data)
        # In a PATCH, DRF makes all fields optional, also those of targets. Targets are replaced as a whole,
        # so they are required here.
        missing = [number for number, target in enumerate(targets) if "provider" not in target]
        if missing:
            raise serializers.ValidationError({missing[0]: {"provider": ["This field is required."]}})
        return [target_line({"model": "", **target}) for target in targets]


class PairLines(serializers.DictField):
    """Names and values, which the form expects as lines."""

    child = PatternText(ONE_LINE, max_length=200, allow_blank=True)

    def to_internal_value(self, data: Any) -> list[str]:
        """Return the pairs as lines. Raises ValidationError for names with a colon or a line break."""
        pairs: dict[str, str] = super().to_internal_value(data)
        if wrong := [name for name in pairs if not name.strip() or set(name) & set(":\r\n")]:
            raise serializers.ValidationError(f"{wrong[0]!r} is not a name: it is empty, or has a colon.")
        return pair_lines(pairs)


class RuleChange(Input):
    """The conditions of a route. A condition that a change does not contain is kept."""

    keys = TextList(source="rule_keys", required=False)
    headers = PairLines(source="rule_headers", required=False)
    metadata = PairLines(source="rule_metadata", required=False)
    min_input_tokens = Integer(required=False, allow_null=True)
    max_input_tokens = Integer(required=False, allow_null=True)
    capabilities = serializers.MultipleChoiceField(choices=CAPABILITIES, required=False)


class RouteChange(Input):
    """A route."""

    name = Text(max_length=200)
    strategy = serializers.ChoiceField(choices=STRATEGIES, required=False)
    targets = TargetLines(source="target_lines", required=False)
    fallbacks = TextList(source="fallback_lines", required=False)
    rule = RuleChange(source="*", required=False)
    retry_attempts = Integer(required=False, allow_null=True)
    retry_delay_ms = Integer(required=False, allow_null=True)
    retries_context_length = Flag(required=False)


class RuleOutput(Serializer):
    """The conditions of a route. A condition that it does not have is absent."""

    keys = serializers.ListField(child=serializers.CharField(), required=False)
    headers = serializers.DictField(child=serializers.CharField(), required=False)
    metadata = serializers.DictField(child=serializers.CharField(), required=False)
    min_input_tokens = serializers.IntegerField(required=False)
    max_input_tokens = serializers.IntegerField(required=False)
    capabilities = serializers.ListField(child=serializers.CharField(), required=False)


class TargetOutput(Serializer):
    """A target. Values that it does not have are absent."""

    provider = serializers.CharField()
    model = serializers.CharField(required=False)
    weight = serializers.IntegerField(required=False)
    timeout = serializers.CharField(required=False)


class RouteOutput(Serializer):
    """A route."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    strategy = serializers.CharField()
    targets = TargetOutput(many=True)
    fallbacks = serializers.ListField(child=serializers.CharField())
    rule = RuleOutput()
    retry_attempts = serializers.IntegerField(allow_null=True)
    retry_delay_ms = serializers.IntegerField(allow_null=True)
    retries_context_length = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class RouteList(ProjectView):
    """List and create routes."""

    rules = {"GET": READ, "POST": WRITE}

    @documented("listRoutes", RouteOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the routes of the project."""
        rows = Route.objects.for_project(self.project)
        routes, cursor = paginate(rows, request, context=f"routes-{self.project.pk}")
        return page(RouteOutput(routes, many=True).data, cursor)

    @documented("createRoute", RouteOutput, body=RouteChange, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a route. Its name is then a model of the project."""
        form = self.read(RouteChange).submit(RouteForm, project=self.project)
        return success(RouteOutput(form.save()).data, 201)


class RouteDetail(ProjectView):
    """Show, change and delete a route."""

    rules = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @documented("getRoute", RouteOutput)
    def get(self, request: Request, route_id: int, **_: str) -> Response:
        """Return a route."""
        return success(RouteOutput(self.find_route(route_id)).data)

    @documented("changeRoute", RouteOutput, body=RouteChange)
    def patch(self, request: Request, route_id: int, **_: str) -> Response:
        """Change a route."""
        body = self.read(RouteChange, partial=True)
        form = body.submit(RouteForm, instance=self.find_route(route_id), project=self.project)
        return success(RouteOutput(form.save()).data)

    @documented("deleteRoute", None)
    def delete(self, request: Request, route_id: int, **_: str) -> Response:
        """Delete a route."""
        self.find_route(route_id).delete()
        return success(None)

    def find_route(self, route_id: int) -> Route:
        return find(Route.objects.for_project(self.project), pk=route_id)
