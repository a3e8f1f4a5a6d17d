"""The cost breakdown of a record: lines of quantity and rate, whose sum is exactly the cost."""

from collections.abc import Mapping

import msgspec

from billing.pricing.price import PER_MILLION, Price, Tokens

HALF_NANO_FEMTO = PER_MILLION // 2


class CostLine(msgspec.Struct, frozen=True):
    """A line of a cost breakdown.

    `kind` is a bucket of tokens, the kind of an extra, `request`, `rounding` or `reserved`. `rate` is
    nano-USD per `per` units, or None if the line has no rate. `amount_femto` is exact, in femto-USD (10^-15
    USD).
    """

    kind: str
    amount_femto: int
    quantity: int = 0
    unit: str = ""
    rate: int | None = None
    per: int = 1


def break_down(
    price: Price | None, tokens: Tokens, extras: Mapping[str, int] | None, cost_nano: int
) -> tuple[CostLine, ...]:
    """Return lines whose amounts add up to `cost_nano` exactly.

    If nothing was used and charged, there are no lines. If the cost differs from the sum of the lines,
    another line is added: `rounding` for a difference of at most half a nano-USD, otherwise `reserved`,
    because the reserved amount is charged if the usage is not known.
    """
    lines: list[CostLine] = []
    if price is not None and (cost_nano or tokens != Tokens()):
        lines = [*token_lines(price, tokens), *fee_lines(price, extras)]
    remainder = cost_nano * PER_MILLION - sum(line.amount_femto for line in lines)
    if remainder:
        is_rounding = bool(lines) and abs(remainder) <= HALF_NANO_FEMTO
        lines.append(CostLine("rounding" if is_rounding else "reserved", remainder))
    return tuple(lines)


def token_lines(price: Price, tokens: Tokens) -> list[CostLine]:
    buckets = price.rates(tokens.prompt).buckets(tokens)
    return [
        CostLine(name, count * rate, count, "token", rate, PER_MILLION)
        for name, count, rate in buckets
        if count
    ]


def fee_lines(price: Price, extras: Mapping[str, int] | None) -> list[CostLine]:
    nano = price.request_fee_nano
    lines = [CostLine("request", nano * PER_MILLION, 1, "request", nano)] if nano else []
    for fee, count in price.applicable_fees(extras):
        unit = "request" if fee.per_request else "call" if fee.per == 1 else "token"
        quantity = 1 if fee.per_request else count
        lines.append(CostLine(fee.kind, fee.femto(count), quantity, unit, fee.amount_nano, fee.per))
    return lines
