"""Usage, costs and budgets for programs: `/api/v1/usage/...` in a `{success, data}` envelope, `/api/costs` bare.

Money is a decimal number of US dollars, exact to the last digit, with the integer of nano-USD beside it.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from billing.budget_status import BudgetStatus, statuses
from billing.models import Mode, Outcome, Period
from billing.money import decimal_usd
from billing.reports import Figures, Report
from keys import tokens
from keys.models import ApiKey
from projects import configcache
from proxy import errors, usage_query
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.gateway import identify
from proxy.lean import Reply
from proxy.usage_query import DIMENSIONS, UsageQuery

encode = msgspec.json.Encoder(decimal_format="number").encode
BINDING = (Mode.HARD, Mode.SOFT, Mode.SHADOW)
"""How firmly a budget binds, the firmest first."""
one_at_a_time = asyncio.Semaphore(1)
"""Reports share two threads with the reads that requests to models wait for: they never take both."""


async def stats(exchange: Exchange) -> Reply:
    return await answer(exchange, lambda key: enveloped(stats_of(usage_query.parse(exchange.request, key.project))))


async def costs(exchange: Exchange) -> Reply:
    return await answer(exchange, lambda key: enveloped(costs_of(usage_query.parse(exchange.request, key.project))))


async def budget(exchange: Exchange) -> Reply:
    return await answer(exchange, lambda key: enveloped(budgets_for(key)))


async def costs_by_key(exchange: Exchange) -> Reply:
    return await answer(exchange, lambda key: {each.public_id: usd(nano) for each, nano in spent_by_key(key).items()})


async def costs_of_key(exchange: Exchange, public_id: str) -> Reply:
    """One key, by the id that the list names it by, or by the key itself."""
    token = tokens.parse(public_id)
    wanted = token.public_id if token else public_id

    def find(own: ApiKey) -> dict[str, Any]:
        for key, nano in spent_by_key(own).items():
            if key.public_id == wanted:
                return {"key": wanted, "costUsd": usd(nano)}
        raise errors.no_such_key()

    return await answer(exchange, find)


async def answer(exchange: Exchange, read: Callable[[ApiKey], dict[str, Any]]) -> Reply:
    """`read` gets the caller's key and queries the database, off the event loop."""
    try:
        await identify(exchange)
        assert exchange.grant is not None
        async with one_at_a_time:
            body = await configcache.read(read, exchange.grant.key)
    except Exception as error:
        return await refuse(exchange, errors.of(error))
    await exchange.finish(Outcome.OK, 200)
    return json_reply(exchange, 200, body)


async def refuse(exchange: Exchange, error: GatewayError) -> Reply:
    await exchange.finish(error.outcome, error.status, error.failure.code)
    failure = error.failure
    described = {"message": failure.message, "type": failure.kind, "code": failure.code, "request_id": exchange.request_id}
    reply = json_reply(exchange, error.status, {"success": False, "error": described})
    reply.headers |= error.headers
    return reply


def json_reply(exchange: Exchange, status: int, body: dict[str, Any]) -> Reply:
    return Reply(status, {**exchange.headers(), "content-type": "application/json"}, encode(body))


def enveloped(data: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "data": data}


def usd(nano: int) -> Decimal:
    return Decimal(decimal_usd(nano))


def stats_of(query: UsageQuery) -> dict[str, Any]:
    total = query.report.total()
    return {
        "period": query.period,
        "totalRequests": total.requests,
        "failedRequests": total.failures,
        **token_figures(total),
        "totalCost": usd(total.cost_nano),
        "totalCostNanoUsd": total.cost_nano,
        **breakdowns(query, lambda figures: {**request_figures(figures), **token_figures(figures), **cost_figures(figures)}),
    }


def costs_of(query: UsageQuery) -> dict[str, Any]:
    project, filters = query.report.project, query.report.filters
    today = project.today()
    total = query.report.total().cost_nano
    return {
        "period": query.period,
        "totalCost": usd(total),
        "totalCostNanoUsd": total,
        "today": cost_figures(Report(project, today, today, filters).total()),
        "month": cost_figures(Report(project, today.replace(day=1), today, filters).total()),
        **breakdowns(query, lambda figures: {"requests": figures.requests, **cost_figures(figures)}),
    }


def request_figures(figures: Figures) -> dict[str, Any]:
    return {"requests": figures.requests, "failedRequests": figures.failures}


def token_figures(figures: Figures) -> dict[str, Any]:
    total = figures.input_tokens + figures.output_tokens
    return {"promptTokens": figures.input_tokens, "completionTokens": figures.output_tokens, "totalTokens": total}


def cost_figures(figures: Figures) -> dict[str, Any]:
    return {"cost": usd(figures.cost_nano), "costNanoUsd": figures.cost_nano}


def breakdowns(query: UsageQuery, describe: Callable[[Figures], dict[str, Any]]) -> dict[str, Any]:
    """`byModel`, `byKey` and so on, as far as they were asked for."""
    keys = {key.pk: key for key in ApiKey.objects.filter(project=query.report.project)}
    found = {}
    for dimension in query.group_by:
        rows = query.report.by(DIMENSIONS[dimension])
        shown = {value: named(keys.get(value)) if dimension == "key" else value for value in rows}
        found[f"by{dimension.capitalize()}"] = [{dimension: shown[value], **describe(figures)} for value, figures in rows.items()]
    return found


def named(key: ApiKey | None) -> dict[str, str] | None:
    """None for a key that was deleted, and for the whole project."""
    return {"id": key.public_id, "name": key.label} if key else None


def budgets_for(key: ApiKey) -> dict[str, Any]:
    """All budgets of the key's project; `daily` and `monthly` are the ones that bind this key first."""
    found = statuses(key.project)
    own = [status for status in found if status.budget.key_id in (None, key.pk)]
    return {
        "currency": "USD",
        "timezone": key.project.timezone,
        "daily": tightest(own, Period.DAY),
        "monthly": tightest(own, Period.MONTH),
        "budgets": [{**described(status), "appliesToThisKey": status in own} for status in found],
    }


def tightest(found: list[BudgetStatus], period: Period) -> dict[str, Any] | None:
    """A hard budget before a soft one, and that before a shadow, which nobody is held to; of the same mode, the one with least left."""
    of_period = [status for status in found if status.budget.period == period]
    return described(min(of_period, key=lambda status: (BINDING.index(status.budget.mode), status.left))) if of_period else None


def described(status: BudgetStatus) -> dict[str, Any]:
    budget = status.budget
    amounts = {"limit": budget.limit_nano, "spent": status.spent, "reserved": status.reserved, "remaining": status.left}
    return {
        "id": budget.pk,
        "owner": "key" if budget.key else "project",
        "key": named(budget.key),
        "period": budget.period,
        "mode": budget.mode,
        "window": status.window,
        **{name: usd(nano) for name, nano in amounts.items()},
        **{f"{name}NanoUsd": nano for name, nano in amounts.items()},
        "resetsAt": status.resets_at,
    }


def spent_by_key(own: ApiKey) -> dict[ApiKey, int]:
    """Everything that the project's keys have ever spent."""
    spent = Report.of_all_time(own.project).by("key")
    return {key: spent.get(key.pk, Figures()).cost_nano for key in ApiKey.objects.for_project(own.project)}
