"""The pages of alerts: what was sent to whom, and the webhooks that messages can go to."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.budgets.forms import WebhookForm
from billing.models import Alert, Delivery, Webhook
from billing.tasks import deliver_alerts
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role

MAX_RECENT_ALERTS = 50
MAX_TEST_DELIVERIES = 10


@project_view(Role.MEMBER)
def alert_list(request: ProjectRequest, project: Project) -> HttpResponse:
    page = {
        "webhooks": Webhook.objects.for_project(project),
        "alerts": Alert.objects.latest_for(project, MAX_RECENT_ALERTS),
        "tests": Delivery.objects.test_deliveries_for(project, MAX_TEST_DELIVERIES),
    }
    return render(request, "alerts/list.html", page)


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
    if request.method == "POST":
        webhook.deliveries.create(project=project)
        # Where there is no worker, this sends at once, and the next page shows how it went.
        transaction.on_commit(deliver_alerts.delay, robust=True)
        messages.success(request, "A test is on its way. How it went is shown below.")
        return redirect("alert-list", project.slug)
    return render(request, "webhooks/test.html", {"webhook": webhook})


@project_view(Role.ADMIN)
def webhook_delete(request: ProjectRequest, project: Project, webhook_id: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook.objects.for_project(project), pk=webhook_id)
    if request.method == "POST":
        webhook.delete()
        messages.success(request, f"{webhook.name} is deleted.")
        return redirect("alert-list", project.slug)
    return render(request, "webhooks/delete.html", {"webhook": webhook})
