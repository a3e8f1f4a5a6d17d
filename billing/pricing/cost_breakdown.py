"""The cost of a record, line by line: quantity times rate makes each amount, and together they make the cost to the last digit."""

from collections.abc import Mapping

import msgspec

from billing.pricing.price import PER_MILLION, Price, Tokens

HALF_NANO_FEMTO = PER_MILLION // 2


class CostLine(msgspec.Struct, frozen=True):
    """One line of an explanation.

    `kind` is a bucket of tokens, the kind of an extra, `request`, `rounding` or `held`. `rate` is nano-USD per `per` of `unit`
    (None where there is none). `amount_femto` is in femto-USD (a millionth of a nano-USD), so that it is exact.
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
    """The lines whose amounts sum to `cost_nano` exactly; none for a request that was charged nothing, or has no price.

    `rounding` is what makes whole nano-USD. Any other difference is `held`: the whole amount of a reservation counts where what was
    used is not known.
    """
    lines = []
    if price is not None and (cost_nano or tokens != Tokens()):
        lines = [*token_lines(price, tokens), *fee_lines(price, extras)]
    remainder = cost_nano * PER_MILLION - sum(line.amount_femto for line in lines)
    if remainder:
        lines.append(
            CostLine(
                "rounding" if lines and -HALF_NANO_FEMTO <= remainder <= HALF_NANO_FEMTO else "reserved",
                remainder,
            )
        )
    return tuple(lines)


def token_lines(price: Price, tokens: Tokens) -> list[CostLine]:
    buckets = price.rates(tokens.prompt).buckets(tokens)
    return [
        CostLine(name, count * rate, count, "token", rate, PER_MILLION)
        for name, count, rate in buckets
        if count
    ]


def fee_lines(price: Price, extras: Mapping[str, int] | None) -> list[CostLine]:
    lines = (
        [CostLine("request", price.request_fee_nano * PER_MILLION, 1, "request", price.request_fee_nano)]
        if price.request_fee_nano
        else []
    )
    for fee, count in price.applicable_fees(extras):
        unit = "request" if fee.per_request else "call" if fee.per == 1 else "token"
        lines.append(
            CostLine(
                fee.kind, fee.femto(count), 1 if fee.per_request else count, unit, fee.amount_nano, fee.per
            )
        )
    return lines
