"""The audit log of a project: who has changed what, and from where."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Serializer
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented
from projects.models import AuditEntry, Role


class AuditOutput(Serializer):
    """A change. `via` is session, token, key or system; `fields` are empty if they are not known."""

    id = serializers.IntegerField(source="pk")
    created_at = serializers.DateTimeField()
    actor = serializers.CharField()
    via = serializers.CharField()
    address = serializers.CharField()
    action = serializers.CharField()
    model = serializers.CharField()
    subject = serializers.CharField()
    fields_changed = serializers.ListField(child=serializers.CharField(), source="fields")


class AuditLog(ProjectView):
    """The audit log."""

    rules = {"GET": Rule(Role.ADMIN, ("project:manage",))}

    @documented("listAuditEntries", AuditOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the changes in the project, from new to old."""
        rows = AuditEntry.objects.for_project(self.project)
        entries, cursor = paginate(rows, request, newest_first=True, context=f"audit-{self.project.pk}")
        return page(AuditOutput(entries, many=True).data, cursor)
