"""Money: whole cents inside, exact decimals at the edge. Nothing passes through a float on the way."""

from decimal import Decimal

MAX_CENTS = 10**15
"""The largest amount of one price or one order. What sums of it fit into 64 bits is ample for any account."""


def to_cents(amount: Decimal) -> int:
    """Whole cents of an amount. Raises ValueError when it is not finite, finer than a cent, or beyond `MAX_CENTS`."""
    if not amount.is_finite():
        raise ValueError("is not a finite number")
    if not amount:
        return 0
    # Size first: digits are only ever expanded within it, so 1e999999999 costs nothing.
    if amount.adjusted() >= len(str(MAX_CENTS)):
        raise ValueError(f"is larger than {from_cents(MAX_CENTS)}")
    sign, digits, exponent = amount.as_tuple()
    fraction = -2 - int(exponent)
    whole = digits[:-fraction] if fraction > 0 else digits + (0,) * -fraction
    if fraction > 0 and any(digits[-fraction:]):
        raise ValueError("is finer than a cent")
    cents = int("".join(map(str, whole)) or "0")
    if cents > MAX_CENTS:
        raise ValueError(f"is larger than {from_cents(MAX_CENTS)}")
    return -cents if sign else cents


def from_cents(cents: int) -> Decimal:
    """The exact amount, always with two places: 1999 is 19.99, 10000 is 100.00."""
    return Decimal(cents).scaleb(-2)
