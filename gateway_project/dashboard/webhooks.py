"""The pages that create, test and delete webhooks. The page of alerts lists the webhooks."""

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from billing.alerts.forms import WebhookForm
from billing.models import Webhook
from billing.tasks import deliver_alerts
from gateway_project.dashboard.confirm import confirm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role


@project_view(Role.ADMIN)
def webhook_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = WebhookForm(request.POST or None, project=project)
    if form.is_valid():
        webhook, secret = form.create_with_secret()
        return render(request, "webhooks/created.html", {"webhook": webhook, "secret": secret})
    return render(request, "webhooks/new.html", {"form": form})


@project_view(Role.ADMIN)
def webhook_test(request: ProjectRequest, project: Project, webhook_id: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook.objects.for_project(project), pk=webhook_id)
    return confirm(
        request,
        "webhooks/test.html",
        {"webhook": webhook},
        action=lambda: send_test(webhook),
        message="A test message is on its way. The result is shown below.",
        redirect_to="alert-list",
    )


def send_test(webhook: Webhook) -> None:
    webhook.deliveries.create(project=webhook.project)
    # Without a worker, the task runs here before the redirect, so that the next page shows the result.
    transaction.on_commit(deliver_alerts.delay, robust=True)


@project_view(Role.ADMIN)
def webhook_delete(request: ProjectRequest, project: Project, webhook_id: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook.objects.for_project(project), pk=webhook_id)
    return confirm(
        request,
        "webhooks/delete.html",
        {"webhook": webhook},
        action=webhook.delete,
        message=f"Webhook {webhook.name} deleted.",
        redirect_to="alert-list",
    )
