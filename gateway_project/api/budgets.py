"""Budgets of a project, with their status."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.budgets.forms import BudgetForm
from billing.budgets.status import BudgetStatus, list_statuses
from billing.models import Budget, Mode, Period, Webhook
from gateway_project.api.envelope import page, success
from gateway_project.api.serializers import Input, Integer, Serializer, UsdField, UsdOutput
from gateway_project.api.views import ProjectView, Rule, documented, find
from keys.models import ApiKey
from projects.models import Project, Role

READ = Rule(Role.VIEWER, ("usage:read", "project:manage"))
WRITE = Rule(Role.ADMIN, ("project:manage",))


class KeyReference(serializers.CharField):
    """The id of an API key of the project."""

    def to_internal_value(self, data: Any) -> int:
        """Return the primary key. Raises ValidationError if the project has no such key."""
        public_id = super().to_internal_value(data)
        found = ApiKey.objects.filter(project=project_of(self), public_id=public_id).first()
        if found is None:
            raise serializers.ValidationError("This project has no such API key.")
        return found.pk


class MemberList(serializers.ListField):
    """E-mail addresses of members of the project."""

    child = serializers.EmailField()

    def to_internal_value(self, data: Any) -> list[int]:
        """Return the memberships. Raises ValidationError for people who are not members."""
        wanted = {address.lower() for address in super().to_internal_value(data)}
        rows = project_of(self).memberships.filter(user__email__in=wanted)
        found = dict(rows.values_list("user__email", "pk"))
        if missing := wanted - set(found):
            raise serializers.ValidationError(f"Not a member of this project: {', '.join(sorted(missing))}.")
        return list(found.values())


class WebhookList(serializers.ListField):
    """Ids of webhooks of the project."""

    child = Integer()

    def to_internal_value(self, data: Any) -> list[int]:
        """Return the ids. Raises ValidationError for webhooks that the project does not have."""
        wanted = set(super().to_internal_value(data))
        found = set(Webhook.objects.for_project(project_of(self)).values_list("pk", flat=True))
        if missing := wanted - found:
            raise serializers.ValidationError(f"This project has no webhook {min(missing)}.")
        return sorted(wanted)


class BudgetChange(Input):
    """The fields of a budget that can change. `limit` is in US dollars."""

    mode = serializers.ChoiceField(choices=Mode.choices, required=False)
    limit = UsdField(source="limit_nano")
    thresholds = serializers.ListField(child=Integer(), required=False)
    alert_members = MemberList(required=False)
    alert_webhooks = WebhookList(required=False)


class NewBudget(BudgetChange):
    """A new budget of the project, or of the API key `keyId`."""

    key_id = KeyReference(source="key", required=False, allow_null=True)
    period = serializers.ChoiceField(choices=Period.choices)


class BudgetOutput(Serializer):
    """A budget with its status in the current window. Amounts are US dollars."""

    id = serializers.IntegerField(source="budget.pk")
    key_id = serializers.SerializerMethodField()
    period = serializers.CharField(source="budget.period")
    mode = serializers.CharField(source="budget.mode")
    limit = UsdOutput(source="budget.limit_nano")
    spent = UsdOutput()
    reserved = UsdOutput()
    remaining = UsdOutput()
    window = serializers.CharField()
    resets_at = serializers.DateTimeField(allow_null=True)
    thresholds = serializers.ListField(child=serializers.IntegerField(), source="budget.thresholds")
    alert_members = serializers.SerializerMethodField()
    alert_webhooks = serializers.SerializerMethodField()

    def get_key_id(self, status: BudgetStatus) -> str | None:
        """Return the id of the key, or None for a budget of the whole project."""
        return status.budget.key.public_id if status.budget.key else None

    def get_alert_members(self, status: BudgetStatus) -> list[str]:
        """Return the e-mail addresses that get alerts."""
        return sorted(status.budget.alert_members.values_list("user__email", flat=True))

    def get_alert_webhooks(self, status: BudgetStatus) -> list[int]:
        """Return the ids of the webhooks that get alerts."""
        return sorted(status.budget.alert_webhooks.values_list("pk", flat=True))


class BudgetList(ProjectView):
    """List and create budgets."""

    rules = {"GET": READ, "POST": WRITE}

    @documented("listBudgets", BudgetOutput(many=True))
    def get(self, request: Request, **_: str) -> Response:
        """List all budgets of the project: first those of the whole project, then those of keys."""
        return page(BudgetOutput(list_statuses(self.project), many=True).data, None)

    @documented("createBudget", BudgetOutput, body=NewBudget, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a budget. It takes effect within a second."""
        body = self.read(NewBudget)
        form = body.submit(BudgetForm, project=self.project, user=self.caller.user)
        return success(shown(self.project, form.save()), 201)


class BudgetDetail(ProjectView):
    """Show, change and delete a budget."""

    rules = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @documented("getBudget", BudgetOutput)
    def get(self, request: Request, budget_id: int, **_: str) -> Response:
        """Return a budget."""
        return success(shown(self.project, self.find_budget(budget_id)))

    @documented("changeBudget", BudgetOutput, body=BudgetChange)
    def patch(self, request: Request, budget_id: int, **_: str) -> Response:
        """Change a budget.

        Its key and its period cannot change, because its counted amounts belong to them.
        """
        budget = self.find_budget(budget_id)
        body = self.read(BudgetChange, partial=True)
        form = body.submit(BudgetForm, instance=budget, project=self.project, user=self.caller.user)
        return success(shown(self.project, form.save()))

    @documented("deleteBudget", None)
    def delete(self, request: Request, budget_id: int, **_: str) -> Response:
        """Delete a budget. The usage records stay."""
        self.find_budget(budget_id).delete()
        return success(None)

    def find_budget(self, budget_id: int) -> Budget:
        return find(Budget.objects.for_project(self.project), pk=budget_id)


def shown(project: Project, budget: Budget) -> Any:
    """Return a budget with its status."""
    statuses = list_statuses(project)
    return BudgetOutput(next(status for status in statuses if status.budget.pk == budget.pk)).data


def project_of(field: serializers.Field) -> Project:
    """Return the project of the view that reads the body."""
    project: Project = field.context["project"]
    return project
