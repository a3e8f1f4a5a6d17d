"""The page of the models that a project can call."""

from django.http import HttpResponse
from django.shortcuts import render

from billing.pricing.price_list import load_price_list
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.routing.accounts import operator_accounts_for
from proxy.routing.model_list import catalog_models, configured_models
from proxy.routing.resolve import load_project_routing
from proxy.routing.routes import model_life


@project_view(Role.VIEWER)
def model_list(request: ProjectRequest, project: Project) -> HttpResponse:
    table = load_project_routing(project.pk).table(operator_accounts_for(project))
    prices, today = load_price_list(project.pk), model_life.today()
    page = {
        "configured": list(configured_models(table, prices, today)),
        "catalog": list(catalog_models(table, prices, today)),
    }
    return render(request, "models/list.html", page)
