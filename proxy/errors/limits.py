"""Errors about budgets, rate limits and prices, and the headers that report rate limits."""

import math
import time

from billing.ledger import BudgetExceeded, RateLimitExceeded, RateLimitStatus
from billing.models import Outcome, Period
from billing.money import decimal_usd
from keys.auth_throttle import WINDOW_S
from proxy.errors.gateway_error import GatewayError, gateway_error, rate_limited
from proxy.errors.requests import MAX_SHOWN_ID_LENGTH


def budget_exceeded(denial: BudgetExceeded) -> GatewayError:
    budget = denial.budget
    period, owner = Period(budget.period).label, "project's" if budget.is_project_wide else "key's"
    text = (
        f"The {owner} {period} budget of ${decimal_usd(budget.limit_nano)} has "
        f"${decimal_usd(denial.remaining)} left and this request may cost ${decimal_usd(denial.needed)}. "
    )
    headers = {"x-should-retry": "false"}
    if denial.resets_at is None:
        text += "This budget does not reset."
    else:
        text += f"It resets at {denial.resets_at:%Y-%m-%dT%H:%M:%SZ}."
        headers["retry-after"] = str(max(int(denial.resets_at.timestamp() - time.time()), 1))
    return gateway_error(
        429, Outcome.BUDGET_EXCEEDED, "rate_limit", "insufficient_quota", text, headers=headers
    )


def budget_exhausted_midstream() -> GatewayError:
    text = "The response was aborted, because its cost has used up the budget."
    return gateway_error(429, Outcome.BUDGET_EXCEEDED, "rate_limit", "insufficient_quota", text)


LIMIT_TEXT = {
    "requests": "send {} requests per minute",
    "tokens": "use {} tokens per minute",
    "concurrent": "have {} requests in progress at once",
}


def rate_limit_exceeded(denial: RateLimitExceeded) -> GatewayError:
    text = f"This {denial.rate_limit.owner_kind} may {LIMIT_TEXT[denial.kind].format(denial.limit)}. "
    if denial.retry_after is None:
        text += "This request alone may use more. Send less input, or lower max_tokens."
        return rate_limited(text, {"x-should-retry": "false"})
    wait = math.ceil(denial.retry_after)
    headers = {"retry-after": str(wait), "retry-after-ms": str(math.ceil(denial.retry_after * 1000))}
    return rate_limited(f"{text}Try again in {wait} seconds.", headers)


def rate_limit_headers(status: RateLimitStatus) -> dict[str, str]:
    """Return the headers with the rate-limit status.

    Most of them are OpenAI's headers. Two more headers report the limit of requests in another form. The
    counters of the ledger last a little longer than a minute, which is the window that clients know.
    """
    headers: dict[str, str] = {}
    for kind, allowance in (("requests", status.requests), ("tokens", status.tokens)):
        if allowance is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(allowance.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = f"{min(allowance.resets_after, WINDOW_S):.3f}s"
    if status.requests is not None:
        headers["x-ratelimit-remaining"] = str(status.requests.remaining)
        headers["x-ratelimit-reset-ms"] = str(int(min(status.requests.resets_after, WINDOW_S) * 1000))
    return headers


def unpriced_model(model: str) -> GatewayError:
    text = (
        f"The price of the model {model} is not known, so a budget cannot cover it. "
        "Use another model, or a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "model_not_priced", text, "model")


def unbounded_cost(field: str) -> GatewayError:
    text = (
        f"The cost of the field {field} is not known, so a budget cannot cover it. "
        "Remove the field, or use a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "cost_not_bounded", text, field)


def unpriced_tool(tool: str) -> GatewayError:
    text = (
        f"The price of the tool {tool[:MAX_SHOWN_ID_LENGTH]} is not known, so a budget cannot cover it. "
        "Remove the tool, or use a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "cost_not_bounded", text, "tools")
