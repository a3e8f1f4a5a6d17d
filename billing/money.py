"""Money is an integer number of nano-USD; this is the only place where it meets text."""

from decimal import Decimal, InvalidOperation

NANO = 10**9
MAX_AMOUNT_NANO = 10**18
"""One thousand million dollars: what fits a 64-bit column with room for sums."""


class InvalidAmount(ValueError):
    """The text is no amount of dollars that the gateway can hold; the message says why."""


def parse_usd(text: str) -> int:
    """Nano-USD from decimal dollars with at most nine places; raises InvalidAmount."""
    try:
        nano = Decimal(text.strip().removeprefix("$")) * NANO
    except InvalidOperation:
        raise InvalidAmount(f"{text!r} is not an amount in US dollars.") from None
    if not nano.is_finite() or not 0 <= nano <= MAX_AMOUNT_NANO:
        raise InvalidAmount("The amount must lie between 0 and 1,000,000,000 dollars.")
    if nano != int(nano):
        raise InvalidAmount("The amount has more than nine decimal places.")
    return int(nano)


def decimal_usd(nano: int) -> str:
    """Plain decimal dollars, exact: `0.000012` for headers and machines."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, fraction = divmod(nano, NANO)
    digits = f"{fraction:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def exact_usd(femto: int) -> str:
    """Decimal dollars from millionths of a nano-USD, to the last digit: `$0.0000001375`."""
    sign, femto = ("-", -femto) if femto < 0 else ("", femto)
    whole, fraction = divmod(femto, NANO * 10**6)
    digits = f"{fraction:015d}".rstrip("0")
    return f"{sign}${whole:,}.{digits:0<2}"


def format_usd(nano: int) -> str:
    """For people: `$1,234.50`; below one cent, every digit that is not zero."""
    if nano and abs(nano) < NANO // 100:
        return f"-${decimal_usd(-nano)}" if nano < 0 else f"${decimal_usd(nano)}"
    cents = (abs(nano) + NANO // 200) // (NANO // 100)
    return f"{'-' if nano < 0 else ''}${cents // 100:,}.{cents % 100:02d}"
