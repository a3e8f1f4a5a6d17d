"""Pages of prices: what models cost and why, the prices that a project sets, and the cost of one request explained."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from billing.models import Budget, PriceOverride, UsageRecord
from billing.pricing import Price
from billing.pricing.forms import PriceForm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.repricing import Repricer, entry_from_record

MAX_RECENT_RECORDS = 500
"""How far back a model counts as used."""


@dataclass(frozen=True, slots=True)
class UsedModel:
    provider: str
    model: str
    price: Price | None


def used_models(project: Project) -> list[UsedModel]:
    """Models of the latest requests, with the prices that hold for them now."""
    records = (
        UsageRecord.objects.for_project(project)
        .requests()
        .exclude(provider="")
        .order_by("-id")[:MAX_RECENT_RECORDS]
    )
    latest = {(record.provider, record.provider_model): record for record in reversed(records)}
    price_lookup = Repricer(project)
    return [
        UsedModel(*names, price_lookup.price(entry_from_record(record), timezone.now()))
        for names, record in sorted(latest.items())
    ]


@project_view(Role.VIEWER)
def price_list(request: ProjectRequest, project: Project) -> HttpResponse:
    page = {
        "used": used_models(project),
        "own": PriceOverride.objects.for_project(project),
        "operators": PriceOverride.objects.for_operator(),
    }
    return render(request, "prices/list.html", page)


@project_view(Role.ADMIN)
def price_create(request: ProjectRequest, project: Project) -> HttpResponse:
    with timezone.override(project.tzinfo):
        form = PriceForm(request.POST or None, project=project)
        if form.is_valid():
            price = form.save()
            messages.success(request, f"The price of {price.pattern} is set.")
            return redirect("price-list", project.slug)
        return render(request, "prices/form.html", {"form": form})


@project_view(Role.ADMIN)
def price_end(request: ProjectRequest, project: Project, price_id: int) -> HttpResponse:
    price = get_object_or_404(PriceOverride.objects.for_project(project).filter(ended_at=None), pk=price_id)
    if request.method == "POST":
        price.end_now()
        messages.success(request, f"The price of {price.pattern} holds no more.")
        return redirect("price-list", project.slug)
    return render(request, "prices/end.html", {"price": price})


@project_view(Role.VIEWER)
def request_detail(request: ProjectRequest, project: Project, record_id: UUID) -> HttpResponse:
    """One request: its timing, its tokens, and its cost line by line. A correction is shown with the record that it corrects."""
    records = UsageRecord.objects.for_project(project).select_related("key")
    record = get_object_or_404(records, pk=record_id)
    if record.corrects is not None:
        return redirect("request-detail", project.slug, record.corrects)
    corrections = list(records.corrections_of(record))
    total = record.cost_nano + sum(correction.cost_nano for correction in corrections)
    refused_by = Budget.objects.for_project(project).filter(pk=record.blocking_budget_id or 0).first()
    page = {"record": record, "corrections": corrections, "total_nano": total, "refused_by": refused_by}
    return render(request, "requests/detail.html", page)
