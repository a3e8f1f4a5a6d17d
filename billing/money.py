"""Conversion of money to and from text. In all other code, money is an integer number of nano-USD."""

from decimal import Decimal, InvalidOperation

NANO = 10**9
MAX_AMOUNT_NANO = 10**18
"""One billion US dollars. A sum of up to nine such amounts fits in a 64-bit column."""


class InvalidAmount(ValueError):
    """Raised if a text is not an amount in US dollars that the gateway can store. The message says why."""


def parse_usd(text: str) -> int:
    """Parse decimal dollars with at most nine decimal places into nano-USD. Raises InvalidAmount."""
    try:
        nano = Decimal(text.strip().removeprefix("$")) * NANO
    except InvalidOperation:
        raise InvalidAmount(f"{text!r} is not an amount in US dollars. Write it as 1250.50.") from None
    if not nano.is_finite() or not 0 <= nano <= MAX_AMOUNT_NANO:
        raise InvalidAmount("The amount must be between 0 and 1,000,000,000 dollars.")
    if nano != int(nano):
        raise InvalidAmount("The amount can have at most nine decimal places.")
    return int(nano)


def decimal_usd(nano: int) -> str:
    """Render an exact amount in US dollars for programs: `0.000012`."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, fraction = divmod(nano, NANO)
    digits = f"{fraction:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def exact_usd(femto: int) -> str:
    """Render femto-USD (10^-15 USD) exactly: `$0.0000001375`."""
    sign, femto = ("-", -femto) if femto < 0 else ("", femto)
    whole, fraction = divmod(femto, NANO * 10**6)
    digits = f"{fraction:015d}".rstrip("0")
    return f"{sign}${whole:,}.{digits:0<2}"


def format_usd(nano: int) -> str:
    """Render an amount for people, rounded to cents: `$1,234.50`. Below one cent, show all digits."""
    if nano and abs(nano) < NANO // 100:
        return f"-${decimal_usd(-nano)}" if nano < 0 else f"${decimal_usd(nano)}"
    cents = (abs(nano) + NANO // 200) // (NANO // 100)
    return f"{'-' if nano < 0 else ''}${cents // 100:,}.{cents % 100:02d}"
