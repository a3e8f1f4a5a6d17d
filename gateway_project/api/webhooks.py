"""Webhooks of a project, and its latest alerts."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.alerts.forms import WebhookForm
from billing.models import AdminAlert, Alert, Webhook
from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer, Text, UsdOutput
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from gateway_project.dashboard.alerts import MAX_RECENT_ALERTS
from gateway_project.dashboard.webhooks import send_test
from projects.models import Project, Role

MANAGE = ("project:manage",)
READ, WRITE = Rule(Role.MEMBER, MANAGE), Rule(Role.ADMIN, MANAGE)


class NewWebhook(Input):
    """A new webhook."""

    name = Text(max_length=80)
    url = Text(max_length=500)


class WebhookOutput(Serializer):
    """A webhook. Of its URL, only the host is shown, because the rest may contain a secret."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    host = serializers.CharField()
    created_at = serializers.DateTimeField()


class NewWebhookOutput(WebhookOutput):
    """A webhook with its signing secret, which is shown only once."""

    secret = serializers.SerializerMethodField()

    def get_secret(self, webhook: Webhook) -> str:
        """Return the secret that the view has passed."""
        secret: str = self.context["secret"]
        return secret


class AlertOutput(Serializer):
    """An alert about a budget.

    `threshold` is the percentage of the limit that the budget has reached, or 0 if the budget has denied its
    first request in the window.
    """

    budget_id = serializers.IntegerField()
    window = serializers.CharField()
    threshold = serializers.IntegerField()
    spent = UsdOutput(source="spent_nano")
    limit = UsdOutput(source="limit_nano")
    created_at = serializers.DateTimeField()


class AdminAlertOutput(Serializer):
    """An alert to the admins about something other than a budget."""

    event = serializers.CharField()
    subject = serializers.CharField()
    title = serializers.CharField()
    text = serializers.CharField()
    created_at = serializers.DateTimeField()


class AlertsOutput(Serializer):
    """The latest alerts, from new to old."""

    budget_alerts = AlertOutput(many=True)
    admin_alerts = AdminAlertOutput(many=True)


class WebhookList(ProjectView):
    """List and create webhooks."""

    rules = {"GET": READ, "POST": WRITE}

    @documented("listWebhooks", WebhookOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the webhooks of the project."""
        rows = Webhook.objects.for_project(self.project)
        webhooks, cursor = paginate(rows, request, context=f"webhooks-{self.project.pk}")
        return page(WebhookOutput(webhooks, many=True).data, cursor)

    @documented("createWebhook", NewWebhookOutput, body=NewWebhook, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a webhook. `secret` signs its messages, and is not shown again."""
        form = self.read(NewWebhook).submit(WebhookForm, project=self.project)
        webhook, secret = form.create_with_secret()
        return success(NewWebhookOutput(webhook, context={"secret": secret}).data, 201)


class WebhookDetail(ProjectView):
    """Delete a webhook."""

    rules = {"DELETE": WRITE}

    @documented("deleteWebhook", None)
    def delete(self, request: Request, webhook_id: int, **_: str) -> Response:
        """Delete a webhook."""
        find_webhook(self.project, webhook_id).delete()
        return success(None)


class WebhookTest(ProjectView):
    """Send a test message."""

    rules = {"POST": WRITE}

    @documented("testWebhook", None)
    def post(self, request: Request, webhook_id: int, **_: str) -> Response:
        """Send a test message to a webhook. The page of alerts shows the result."""
        send_test(find_webhook(self.project, webhook_id))
        return success(None)


class AlertList(ProjectView):
    """The latest alerts of a project."""

    rules = {"GET": READ}

    @documented("listAlerts", AlertsOutput)
    def get(self, request: Request, **_: str) -> Response:
        """Return the latest alerts about budgets, and those to the admins."""
        alerts: dict[str, Any] = {
            "budget_alerts": Alert.objects.latest_for(self.project, MAX_RECENT_ALERTS),
            "admin_alerts": AdminAlert.objects.latest_for(self.project, MAX_RECENT_ALERTS),
        }
        return success(AlertsOutput(alerts).data)


def find_webhook(project: Project, webhook_id: int) -> Webhook:
    return find(Webhook.objects.for_project(project), pk=webhook_id)
