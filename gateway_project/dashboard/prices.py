"""The pages of prices: the current prices of used models, and price overrides."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from billing.models import PriceOverride, UsageRecord
from billing.pricing import Price
from billing.pricing.forms import PriceForm
from gateway_project.dashboard.confirm import confirm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.routing.prices import ProviderPrices

MAX_RECENT_RECORDS = 500
"""A model counts as used if one of this many latest requests used it."""


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A model that recent requests used. `price` is None if its price is not known."""

    provider: str
    model: str
    price: Price | None


def used_models(project: Project) -> list[UsedModel]:
    """Return the models of the latest requests with their current prices."""
    records = (
        UsageRecord.objects.for_project(project)
        .requests()
        .exclude(provider="")
        .order_by("-id")[:MAX_RECENT_RECORDS]
    )
    names = set(records.values_list("provider", "provider_model"))
    prices, now = ProviderPrices(project), timezone.now()
    return [UsedModel(*name, prices.price_at(*name, now)) for name in sorted(names)]


@project_view(Role.VIEWER)
def price_list(request: ProjectRequest, project: Project) -> HttpResponse:
    page = {
        "used": used_models(project),
        "own": PriceOverride.objects.for_project(project),
        "operators": PriceOverride.objects.for_operator(),
    }
    return render(request, "prices/list.html", page)


@project_view(Role.ADMIN)
def price_new(request: ProjectRequest, project: Project) -> HttpResponse:
    with timezone.override(project.tzinfo):
        form = PriceForm(request.POST or None, project=project)
        if form.is_valid():
            price = form.save()
            messages.success(request, f"Price of {price.pattern} saved.")
            return redirect("price-list", project.slug)
        return render(request, "prices/form.html", {"form": form})


@project_view(Role.ADMIN)
def price_end(request: ProjectRequest, project: Project, price_id: int) -> HttpResponse:
    price = get_object_or_404(PriceOverride.objects.for_project(project).filter(ended_at=None), pk=price_id)
    return confirm(
        request,
        "prices/end.html",
        {"price": price},
        action=price.end_now,
        message=f"The price of {price.pattern} has ended.",
        redirect_to="price-list",
    )
