"""Requests of a project: the usage records, without prompts and responses."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import Outcome, UsageRecord
from billing.models.usage import UsageRecordQuerySet
from billing.usage.tags import with_tags
from gateway_project.api.envelope import InvalidFields, page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Serializer, UsdOutput
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from projects.models import Project, Role
from proxy.formats.metadata import parse_tag
from proxy.formats.neutral import InvalidRequest
from proxy.prompt_log.search import corrections_by_record, parse_time

READ = Rule(Role.VIEWER, ("usage:read",))
FILTERS = {
    "model": "requested_model",
    "provider": "provider",
    "keyId": "key__public_id",
    "outcome": "outcome",
    "requestId": "request_id",
}
PARAMETERS = [
    OpenApiParameter("from", str, description="A time such as 2026-11-20 or 2026-11-20T09:30:00Z."),
    OpenApiParameter("to", str, description="A later time, which is not included."),
    OpenApiParameter("model", str, description="The requested model."),
    OpenApiParameter("provider", str),
    OpenApiParameter("keyId", str, description="The id of an API key."),
    OpenApiParameter("requestId", str, description="The x-request-id of a response."),
    OpenApiParameter("outcome", str, enum=Outcome.values),
    OpenApiParameter("tag", str, description="A tag, such as team:search."),
    *PAGE_PARAMETERS,
]


class RequestOutput(Serializer):
    """A request. `cost` is in US dollars and includes later corrections."""

    id = serializers.UUIDField()
    request_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    key_id = serializers.SerializerMethodField()
    operation = serializers.CharField()
    format = serializers.CharField()
    model = serializers.CharField(source="requested_model")
    provider = serializers.CharField()
    provider_model = serializers.CharField()
    streamed = serializers.BooleanField()
    outcome = serializers.CharField()
    status = serializers.IntegerField(source="status_code")
    error = serializers.CharField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField(source="output_tokens")
    cost = serializers.SerializerMethodField()
    estimated = serializers.BooleanField()
    duration_us = serializers.IntegerField(source="latency_us")
    first_token_us = serializers.IntegerField(allow_null=True)
    tags = serializers.SerializerMethodField()

    def get_key_id(self, record: UsageRecord) -> str | None:
        """Return the id of the key; None if it was deleted."""
        return record.key.public_id if record.key else None

    def get_cost(self, record: UsageRecord) -> Decimal:
        """Return the cost with its corrections."""
        corrections: dict[UUID, int] = self.context["corrections"]
        return UsdOutput().to_representation(record.cost_nano + corrections.get(record.pk, 0))

    def get_tags(self, record: UsageRecord) -> dict[str, str]:
        """Return the tags of the client."""
        return record.metadata or {}


class RequestList(ProjectView):
    """List requests."""

    rules = {"GET": READ}

    @documented("listRequests", RequestOutput(many=True), parameters=PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the requests of the project, from new to old."""
        rows = search(request, self.project)
        records, cursor = paginate(rows, request, newest_first=True, context=f"requests-{self.project.pk}")
        return page(shown(self.project, records), cursor)


class RequestDetail(ProjectView):
    """Show a request."""

    rules = {"GET": READ}

    @documented("getRequest", RequestOutput)
    def get(self, request: Request, record_id: UUID, **_: str) -> Response:
        """Return a request."""
        rows = UsageRecord.objects.for_project(self.project).requests().select_related("key")
        return success(shown(self.project, [find(rows, pk=record_id)])[0])


def search(request: Request, project: Project) -> UsageRecordQuerySet:
    """Return the requests that a query selects. Raises InvalidFields."""
    given = request.query_params
    rows = UsageRecord.objects.for_project(project).requests().select_related("key")
    if given.get("outcome", Outcome.OK) not in Outcome.values:
        raise InvalidFields({"outcome": [f"Choose one of {', '.join(Outcome.values)}."]})
    if invalid := [name for name, values in given.lists() if not "".join(values).isprintable()]:
        raise InvalidFields({invalid[0]: ["The value contains unprintable characters."]})
    rows = rows.filter(**{column: given[name] for name, column in FILTERS.items() if given.get(name)})
    try:
        if given.get("from"):
            rows = rows.filter(pk__gte=parse_time(project.tzinfo, "from", given["from"]))
        if given.get("to"):
            rows = rows.filter(pk__lt=parse_time(project.tzinfo, "to", given["to"]))
        return with_tags(rows, [parse_tag(tag) for tag in given.getlist("tag")])
    except InvalidRequest as error:
        raise InvalidFields({error.param or "": [str(error)]}) from None


def shown(project: Project, records: Any) -> Any:
    """Return records with their corrected costs."""
    corrections = corrections_by_record(project.pk, [record.pk for record in records])
    return RequestOutput(records, many=True, context={"corrections": corrections}).data
