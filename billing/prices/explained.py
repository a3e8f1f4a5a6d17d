"""The cost of a record, line by line: quantity times rate makes each amount, and together they make the cost to the last digit."""

from collections.abc import Mapping

import msgspec

from billing.prices.price import PER_MILLION, Price, Tokens

HALF_A_NANO = PER_MILLION // 2


class Line(msgspec.Struct, frozen=True):
    """One line of an explanation.

    `kind` is a bucket of tokens, the kind of an extra, `request`, `rounding` or `held`. `rate` is nano-USD per `per` of `unit`
    (None where there is none). `amount` is in femto-USD (a millionth of a nano-USD), so that it is exact.
    """

    kind: str
    amount: int
    quantity: int = 0
    unit: str = ""
    rate: int | None = None
    per: int = 1


def explain(price: Price | None, tokens: Tokens, extras: Mapping[str, int] | None, cost_nano: int) -> tuple[Line, ...]:
    """The lines whose amounts sum to `cost_nano` exactly; none for a request that was charged nothing, or has no price.

    `rounding` is what makes whole nano-USD. Any other difference is `held`: the whole amount of a reservation counts where what was
    used is not known.
    """
    lines = []
    if price is not None and (cost_nano or tokens != Tokens()):
        lines = [*token_lines(price, tokens), *fee_lines(price, extras)]
    rest = cost_nano * PER_MILLION - sum(line.amount for line in lines)
    if rest:
        lines.append(Line("rounding" if lines and -HALF_A_NANO <= rest <= HALF_A_NANO else "held", rest))
    return tuple(lines)


def token_lines(price: Price, tokens: Tokens) -> list[Line]:
    buckets = price.rates(tokens.prompt).buckets(tokens)
    return [Line(name, count * rate, count, "token", rate, PER_MILLION) for name, count, rate in buckets if count]


def fee_lines(price: Price, extras: Mapping[str, int] | None) -> list[Line]:
    lines = [Line("request", price.per_request * PER_MILLION, 1, "request", price.per_request)] if price.per_request else []
    for fee, count in price.fees(extras):
        unit = "request" if fee.once else "call" if fee.per == 1 else "token"
        lines.append(Line(fee.kind, fee.exact(count), 1 if fee.once else count, unit, fee.nano, fee.per))
    return lines
