"""Usage, costs and budgets for programs: `/api/v1/usage/...` in a `{success, data}` envelope, `/api/costs` bare.

Money is a decimal number of US dollars, exact to the last digit, with the integer of nano-USD beside it.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from billing.budgets.status import BudgetStatus, list_statuses
from billing.models import Mode, Outcome, Period
from billing.money import decimal_usd
from billing.usage.reports import UsageReport, UsageTotals
from keys import tokens
from keys.models import ApiKey
from projects.db.executor import run_query
from proxy import errors
from proxy.endpoints import usage_query
from proxy.endpoints.usage_query import DIMENSIONS, UsageQuery
from proxy.errors import GatewayError
from proxy.gateway import authenticate_request
from proxy.http.handler import Response
from proxy.pipeline.exchange import Exchange

encode = msgspec.json.Encoder(decimal_format="number").encode
MODE_PRIORITY = (Mode.HARD, Mode.SOFT, Mode.SHADOW)
"""How firmly a budget binds, the firmest first."""
report_slot = asyncio.Semaphore(1)
"""Reports share two threads with the reads that requests to models wait for: they never take both."""


async def stats(exchange: Exchange) -> Response:
    return await respond(
        exchange, lambda key: envelope(build_stats(usage_query.parse(exchange.request, key.project)))
    )


async def costs(exchange: Exchange) -> Response:
    return await respond(
        exchange, lambda key: envelope(build_costs(usage_query.parse(exchange.request, key.project)))
    )


async def budget(exchange: Exchange) -> Response:
    return await respond(exchange, lambda key: envelope(build_budgets(key)))


async def costs_by_key(exchange: Exchange) -> Response:
    return await respond(
        exchange, lambda key: {each.public_id: usd(nano) for each, nano in cost_by_key(key).items()}
    )


async def costs_for_key(exchange: Exchange, public_id: str) -> Response:
    """One key, by the id that the list names it by, or by the key itself."""
    token = tokens.parse(public_id)
    wanted = token.public_id if token else public_id

    def find(own: ApiKey) -> dict[str, Any]:
        for key, nano in cost_by_key(own).items():
            if key.public_id == wanted:
                return {"key": wanted, "costUsd": usd(nano)}
        raise errors.unknown_key()

    return await respond(exchange, find)


async def respond(exchange: Exchange, build_body: Callable[[ApiKey], dict[str, Any]]) -> Response:
    """`build_body` gets the caller's key and queries the database, off the event loop."""
    try:
        await authenticate_request(exchange)
        assert exchange.principal is not None
        async with report_slot:
            body = await run_query(build_body, exchange.principal.key)
    except Exception as error:
        return await error_response(exchange, errors.from_exception(error))
    await exchange.finish(Outcome.OK, 200)
    return json_response(exchange, 200, body)


async def error_response(exchange: Exchange, error: GatewayError) -> Response:
    await exchange.finish(error.outcome, error.status, error.api_error.code)
    failure = error.api_error
    described = {
        "message": failure.message,
        "type": failure.kind,
        "code": failure.code,
        "request_id": exchange.request_id,
    }
    reply = json_response(exchange, error.status, {"success": False, "error": described})
    reply.headers |= error.headers
    return reply


def json_response(exchange: Exchange, status: int, body: dict[str, Any]) -> Response:
    return Response(status, {**exchange.gateway_headers(), "content-type": "application/json"}, encode(body))


def envelope(data: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "data": data}


def usd(nano: int) -> Decimal:
    return Decimal(decimal_usd(nano))


def build_stats(query: UsageQuery) -> dict[str, Any]:
    total = query.report.total()
    return {
        "period": query.period,
        "totalRequests": total.requests,
        "failedRequests": total.failures,
        **token_fields(total),
        "totalCost": usd(total.cost_nano),
        "totalCostNanoUsd": total.cost_nano,
        **breakdowns(
            query,
            lambda figures: {**request_fields(figures), **token_fields(figures), **cost_fields(figures)},
        ),
    }


def build_costs(query: UsageQuery) -> dict[str, Any]:
    project, filters = query.report.project, query.report.filters
    today = project.today()
    total = query.report.total().cost_nano
    return {
        "period": query.period,
        "totalCost": usd(total),
        "totalCostNanoUsd": total,
        "today": cost_fields(UsageReport.for_day(project, today, filters).total()),
        "month": cost_fields(UsageReport.month_to_date(project, today, filters).total()),
        **breakdowns(query, lambda figures: {"requests": figures.requests, **cost_fields(figures)}),
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


def breakdowns(query: UsageQuery, render_totals: Callable[[UsageTotals], dict[str, Any]]) -> dict[str, Any]:
    """`byModel`, `byKey` and so on, as far as they were asked for."""
    keys = {key.pk: key for key in ApiKey.objects.filter(project=query.report.project)}
    found = {}
    for dimension in query.group_by:
        rows = query.report.by(DIMENSIONS[dimension])
        shown = {value: key_json(keys.get(value)) if dimension == "key" else value for value in rows}
        found[f"by{dimension.capitalize()}"] = [
            {dimension: shown[value], **render_totals(figures)} for value, figures in rows.items()
        ]
    return found


def key_json(key: ApiKey | None) -> dict[str, str] | None:
    """None for a key that was deleted, and for the whole project."""
    return {"id": key.public_id, "name": key.label} if key else None


def build_budgets(key: ApiKey) -> dict[str, Any]:
    """All budgets of the key's project; `daily` and `monthly` are the ones that bind this key first."""
    found = list_statuses(key.project)
    own = [status for status in found if status.budget.key_id in (None, key.pk)]
    return {
        "currency": "USD",
        "timezone": key.project.timezone,
        "daily": most_restrictive(own, Period.DAY),
        "monthly": most_restrictive(own, Period.MONTH),
        "budgets": [{**budget_json(status), "appliesToThisKey": status in own} for status in found],
    }


def most_restrictive(statuses_given: list[BudgetStatus], period: Period) -> dict[str, Any] | None:
    """A hard budget before a soft one, and that before a shadow, which nobody is held to; of the same mode, the one with least left."""
    of_period = [status for status in statuses_given if status.budget.period == period]
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


def cost_by_key(caller_key: ApiKey) -> dict[ApiKey, int]:
    """Everything that the project's keys have ever spent."""
    spent = UsageReport.all_time(caller_key.project).by("key")
    return {
        key: spent.get(key.pk, UsageTotals()).cost_nano
        for key in ApiKey.objects.for_project(caller_key.project)
    }
