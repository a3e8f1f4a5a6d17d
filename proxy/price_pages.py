"""Pages of prices: what models cost and why, the prices that a project sets, and the cost of one request explained."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from billing.models import Budget, PriceOverride, UsageRecord
from billing.price_forms import PriceForm
from billing.prices import Price
from projects.access import project_view
from projects.models import Project, Role
from projects.views import ProjectRequest
from proxy.repricing import Repricing, entry_of

LATEST_RECORDS = 500
"""How far back a model counts as used."""


@dataclass(frozen=True, slots=True)
class UsedModel:
    provider: str
    model: str
    price: Price | None


def used_models(project: Project) -> list[UsedModel]:
    """Models of the latest requests, with the prices that hold for them now."""
    records = UsageRecord.objects.for_project(project).requests().exclude(provider="").order_by("-id")[:LATEST_RECORDS]
    latest = {(record.provider, record.model_served): record for record in reversed(records)}
    prices = Repricing(project)
    return [UsedModel(*names, prices.price(entry_of(record), timezone.now())) for names, record in sorted(latest.items())]


@project_view(Role.VIEWER)
def price_list(request: ProjectRequest, project: Project) -> HttpResponse:
    page = {
        "used": used_models(project),
        "own": PriceOverride.objects.for_project(project),
        "operators": PriceOverride.objects.for_operator(),
    }
    return render(request, "billing/prices.html", page)


@project_view(Role.ADMIN)
def price_new(request: ProjectRequest, project: Project) -> HttpResponse:
    with timezone.override(project.zone):
        form = PriceForm(request.POST or None, project=project)
        if form.is_valid():
            price = form.save()
            messages.success(request, f"The price of {price.names} is set.")
            return redirect("price-list", project.slug)
        return render(request, "billing/price_form.html", {"form": form})


@project_view(Role.ADMIN)
def price_end(request: ProjectRequest, project: Project, price_id: int) -> HttpResponse:
    price = get_object_or_404(PriceOverride.objects.for_project(project).filter(ended_at=None), pk=price_id)
    if request.method == "POST":
        price.end()
        messages.success(request, f"The price of {price.names} holds no more.")
        return redirect("price-list", project.slug)
    return render(request, "billing/price_end.html", {"price": price})


@project_view(Role.VIEWER)
def record_detail(request: ProjectRequest, project: Project, record_id: UUID) -> HttpResponse:
    """One request: its timing, its tokens, and its cost line by line. A correction is shown with the record that it corrects."""
    records = UsageRecord.objects.for_project(project).select_related("key")
    record = get_object_or_404(records, pk=record_id)
    if record.corrects is not None:
        return redirect("record-detail", project.slug, record.corrects)
    corrections = list(records.correcting(record))
    total = record.cost_nano + sum(correction.cost_nano for correction in corrections)
    refused_by = Budget.objects.for_project(project).filter(pk=record.refusing_budget_id or 0).first()
    page = {"record": record, "corrections": corrections, "total_nano": total, "refused_by": refused_by}
    return render(request, "proxy/record.html", page)
