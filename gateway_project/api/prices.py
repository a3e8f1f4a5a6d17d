"""Price overrides of a project."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import PriceOverride
from billing.pricing.forms import PriceForm
from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer, Text, UsdField, UsdOutput
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from projects.models import Role

READ = Rule(Role.VIEWER, ("usage:read", "project:manage"))
WRITE = Rule(Role.ADMIN, ("project:manage",))


class ToolFees(serializers.DictField):
    """Fees in US dollars per call, by the kind of tool."""

    child = UsdField()

    def to_internal_value(self, data: Any) -> str:
        """Return the fees as the lines of the form. Raises ValidationError for a name with spaces."""
        fees = super().to_internal_value(data)
        if wrong := [kind for kind in fees if not kind.isidentifier()]:
            raise serializers.ValidationError(f"{wrong[0]!r} is not a kind of tool, such as web_search.")
        return "\n".join(f"{kind} {amount:f}" for kind, amount in fees.items())


def rate(name: str, **options: Any) -> UsdField:
    return UsdField(source=f"{name}_nano", **options)


def optional_rate(name: str) -> UsdField:
    return rate(name, required=False, allow_null=True)


class NewPrice(Input):
    """A new price. Rates are US dollars per million tokens, fees US dollars per request or call."""

    provider = Text(max_length=60, required=False, allow_blank=True)
    model = Text(max_length=200)
    effective_from = serializers.DateTimeField(required=False, allow_null=True)
    input = rate("input")
    output = rate("output")
    cache_read = optional_rate("cache_read")
    cache_write_5m = optional_rate("cache_write_5m")
    cache_write_1h = optional_rate("cache_write_1h")
    cache_write_12h = optional_rate("cache_write_12h")
    reasoning = optional_rate("reasoning")
    per_request = optional_rate("request")
    tool_fees = ToolFees(required=False)


class RateOutput(UsdOutput):
    """A rate, which may be null."""

    def __init__(self, name: str) -> None:
        super().__init__(source=f"{name}_nano", allow_null=True)


class PriceOutput(Serializer):
    """A price override.

    If a rate is null, the rate of the input applies; for reasoning, that of the output.
    """

    id = serializers.IntegerField(source="pk")
    provider = serializers.CharField()
    model = serializers.CharField()
    effective_from = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    input = RateOutput("input")
    output = RateOutput("output")
    cache_read = RateOutput("cache_read")
    cache_write_5m = RateOutput("cache_write_5m")
    cache_write_1h = RateOutput("cache_write_1h")
    cache_write_12h = RateOutput("cache_write_12h")
    reasoning = RateOutput("reasoning")
    per_request = RateOutput("request")
    tool_fees = serializers.DictField(child=UsdOutput())


class PriceList(ProjectView):
    """List and create price overrides."""

    rules = {"GET": READ, "POST": WRITE}

    @documented("listPrices", PriceOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the prices that the project has set, from new to old, with ended ones."""
        rows = PriceOverride.objects.for_project(self.project)
        prices, cursor = paginate(rows, request, newest_first=True, context=f"prices-{self.project.pk}")
        return page(PriceOutput(prices, many=True).data, cursor)

    @documented("createPrice", PriceOutput, body=NewPrice, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Set the price of a model, from now on or from `effectiveFrom`. Past requests keep their cost."""
        form = self.read(NewPrice).submit(PriceForm, project=self.project)
        return success(PriceOutput(form.save()).data, 201)


class PriceDetail(ProjectView):
    """End a price override."""

    rules = {"DELETE": WRITE}

    @documented("endPrice", PriceOutput)
    def delete(self, request: Request, price_id: int, **_: str) -> Response:
        """End a price now. It stays in the list, because past requests refer to it."""
        active = PriceOverride.objects.for_project(self.project).filter(ended_at=None)
        price = find(active, pk=price_id)
        price.end_now()
        return success(PriceOutput(price).data)
