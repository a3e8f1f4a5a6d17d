"""Usage, costs and budgets as JSON.

`/api/v1/usage/...` responds in a `{success, data}` envelope, `/api/costs` without one. Each amount of money
is an exact decimal number of US dollars. It is also given as an integer of nano-USD.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from billing.budgets.status import BudgetStatus, list_statuses
from billing.models import Mode, Period
from billing.money import decimal_usd
from billing.usage.reports import UsageReport, UsageTotals
from keys import tokens
from keys.models import ApiKey
from projects.db.executor import run_query
from proxy import errors
from proxy.endpoints import usage_query
from proxy.endpoints.usage_query import DIMENSIONS, UsageQuery
from proxy.endpoints.views import keyed
from proxy.formats.neutral import InvalidRequest
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, json_response
from proxy.operations import USAGE
from proxy.pipeline.authenticate import Authenticated

Breakdowns = dict[str, dict[Any, UsageTotals]]
WHOLE = "project"
"""A column with the same value in all rows, so that its totals are those of the whole report."""
MODE_PRIORITY = (Mode.HARD, Mode.SOFT, Mode.SHADOW)
"""Modes of budgets, from the most to the least restrictive."""
report_slot = asyncio.Semaphore(1)
"""Limits reports to one at a time.

Reports share two database threads with queries of model requests, and must never use both.
"""


@keyed(USAGE)
async def usage_stats(caller: Authenticated) -> Response:
    """Return requests, tokens and costs of a period."""
    request = caller.received.request
    return await respond(caller, lambda key: envelope(build_stats(usage_query.parse(request, key.project))))


@keyed(USAGE)
async def usage_costs(caller: Authenticated) -> Response:
    """Return the costs of a period, of today and of this month."""
    request = caller.received.request
    return await respond(caller, lambda key: envelope(build_costs(usage_query.parse(request, key.project))))


@keyed(USAGE)
async def usage_budget(caller: Authenticated) -> Response:
    """Return the budgets of the project."""
    return await respond(caller, lambda key: envelope(build_budgets(key)))


@keyed(USAGE)
async def costs_by_key(caller: Authenticated) -> Response:
    """Return the total cost of each key of the project; with `detail=true` also tokens."""
    render_key = key_totals if wants_detail(caller.received.request) else key_cost

    def build_body(own: ApiKey) -> dict[str, Any]:
        return {key.public_id: render_key(totals) for key, totals in totals_by_key(own).items()}

    return await respond(caller, build_body)


@keyed(USAGE)
async def costs_for_key(caller: Authenticated, public_id: str) -> Response:
    """Return cost and tokens of one key, which the URL names by its public id or by the key itself."""
    token = tokens.parse(public_id)
    requested_id = token.public_id if token else public_id

    def find(own: ApiKey) -> dict[str, Any]:
        for key, totals in totals_by_key(own).items():
            if key.public_id == requested_id:
                return {"key": requested_id, **key_totals(totals)}
        raise errors.unknown_key()

    return await respond(caller, find)


def wants_detail(request: GatewayRequest) -> bool:
    """Return whether the query asks for details. Raises InvalidRequest."""
    detail = dict(usage_query.parse_pairs(request.scope["query_string"].decode("latin-1"))).get("detail")
    if detail not in (None, "true", "false"):
        raise InvalidRequest("detail must be true or false.", "detail")
    return detail == "true"


def key_cost(totals: UsageTotals) -> Decimal:
    return usd(totals.cost_nano)


def key_totals(totals: UsageTotals) -> dict[str, Any]:
    return {"costUsd": usd(totals.cost_nano), **token_fields(totals)}


async def respond(caller: Authenticated, build_body: Callable[[ApiKey], dict[str, Any]]) -> Response:
    """Return the result of `build_body` for the caller's key.

    `build_body` may query the database, because it runs off the event loop.
    """
    async with report_slot:
        body = await run_query(build_body, caller.principal.key)
    return json_response(200, {}, body)


def envelope(data: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "data": data}


def usd(nano: int) -> Decimal:
    return Decimal(decimal_usd(nano))


def build_stats(query: UsageQuery) -> dict[str, Any]:
    found = read_breakdowns(query)
    total = total_of(found)
    return {
        "period": query.period,
        "totalRequests": total.requests,
        "failedRequests": total.failures,
        **token_fields(total),
        "totalCost": usd(total.cost_nano),
        "totalCostNanoUsd": total.cost_nano,
        **saving_fields(total),
        **breakdowns(
            query,
            found,
            lambda totals: {**request_fields(totals), **token_fields(totals), **cost_fields(totals)},
        ),
    }


def build_costs(query: UsageQuery) -> dict[str, Any]:
    report, found = query.report, read_breakdowns(query)
    today, total = report.project.today(), total_of(found)
    month = report.between(today.replace(day=1), today).by("day")
    return {
        "period": query.period,
        "totalCost": usd(total.cost_nano),
        "totalCostNanoUsd": total.cost_nano,
        **saving_fields(total),
        "today": cost_fields(month.get(today, UsageTotals())),
        "month": cost_fields(sum(month.values(), UsageTotals())),
        **breakdowns(query, found, lambda totals: {"requests": totals.requests, **cost_fields(totals)}),
    }


def request_fields(totals: UsageTotals) -> dict[str, Any]:
    return {"requests": totals.requests, "failedRequests": totals.failures}


def token_fields(totals: UsageTotals) -> dict[str, Any]:
    total = totals.input_tokens + totals.output_tokens
    return {
        "promptTokens": totals.input_tokens,
        "completionTokens": totals.output_tokens,
        "totalTokens": total,
    }


def cost_fields(totals: UsageTotals) -> dict[str, Any]:
    return {"cost": usd(totals.cost_nano), "costNanoUsd": totals.cost_nano}


def saving_fields(totals: UsageTotals) -> dict[str, Any]:
    """Return the cost that the response cache has saved."""
    return {"totalSaved": usd(totals.saved_nano), "totalSavedNanoUsd": totals.saved_nano}


def read_breakdowns(query: UsageQuery) -> Breakdowns:
    """Return the totals of the query, by column, and by value of the column."""
    return query.report.by_each([WHOLE, *(DIMENSIONS[dimension] for dimension in query.group_by)])


def total_of(found: Breakdowns) -> UsageTotals:
    return sum(found[WHOLE].values(), UsageTotals())


def breakdowns(
    query: UsageQuery, totals_by: Breakdowns, render_totals: Callable[[UsageTotals], dict[str, Any]]
) -> dict[str, Any]:
    """Return the breakdowns that the query asks for, such as `byModel` and `byKey`."""
    keys = {key.pk: key for key in ApiKey.objects.filter(project=query.report.project)}
    found: dict[str, Any] = {}
    for dimension in query.group_by:
        rows = totals_by[DIMENSIONS[dimension]]
        shown = {value: key_json(keys.get(value)) if dimension == "key" else value for value in rows}
        found[f"by{dimension.capitalize()}"] = [
            {dimension: shown[value], **render_totals(totals)} for value, totals in rows.items()
        ]
    for name in query.tag_names:
        values = query.report.by_tag(name).items()
        found.setdefault("byTag", {})[name] = [
            {"value": value, **render_totals(totals)} for value, totals in values
        ]
    if query.tag_names or query.report.tags:
        known_from = query.report.tags_known_from()
        found["tagsKnownFrom"] = known_from and known_from.isoformat()
    return found


def key_json(key: ApiKey | None) -> dict[str, str] | None:
    """Return the id and name of a key; None for a deleted key, and for the whole project."""
    return {"id": key.public_id, "name": key.label} if key else None


def build_budgets(key: ApiKey) -> dict[str, Any]:
    """Return the budgets of the key's project.

    `daily` and `monthly` are the most restrictive budgets for the key.
    """
    found = list_statuses(key.project)
    own = [status for status in found if status.budget.key_id in (None, key.pk)]
    return {
        "currency": "USD",
        "timezone": key.project.timezone,
        "daily": most_restrictive(own, Period.DAY),
        "monthly": most_restrictive(own, Period.MONTH),
        "budgets": [{**budget_json(status), "appliesToThisKey": status in own} for status in found],
    }


def most_restrictive(statuses: list[BudgetStatus], period: Period) -> dict[str, Any] | None:
    """Return the most restrictive budget.

    Hard budgets come before soft ones, and soft ones before shadow ones. Of several budgets with the same
    mode, the one with the least remaining amount is returned.
    """
    of_period = [status for status in statuses if status.budget.period == period]
    return (
        budget_json(
            min(of_period, key=lambda status: (MODE_PRIORITY.index(status.budget.mode), status.remaining))
        )
        if of_period
        else None
    )


def budget_json(status: BudgetStatus) -> dict[str, Any]:
    budget = status.budget
    amounts = {
        "limit": budget.limit_nano,
        "spent": status.spent,
        "reserved": status.reserved,
        "remaining": status.remaining,
    }
    return {
        "id": budget.pk,
        "owner": "key" if budget.key else "project",
        "key": key_json(budget.key),
        "period": budget.period,
        "mode": budget.mode,
        "window": status.window,
        **{name: usd(nano) for name, nano in amounts.items()},
        **{f"{name}NanoUsd": nano for name, nano in amounts.items()},
        "resetsAt": status.resets_at,
    }


def totals_by_key(caller_key: ApiKey) -> dict[ApiKey, UsageTotals]:
    """Return the total usage of each key of the project."""
    used = UsageReport.all_time(caller_key.project).by("key")
    return {key: used.get(key.pk, UsageTotals()) for key in ApiKey.objects.for_project(caller_key.project)}
