"""Money: exact in both directions, or refused with the reason."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_saga.domain.money import MAX_CENTS, from_cents, to_cents


@given(st.integers(-MAX_CENTS, MAX_CENTS))
def test_cents_survive_the_way_to_the_edge_and_back(cents: int) -> None:
    assert to_cents(from_cents(cents)) == cents


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_an_amount_is_either_exact_or_refused(amount: Decimal) -> None:
    try:
        cents = to_cents(amount)
    except ValueError:
        assert abs(amount) > from_cents(MAX_CENTS) or amount != amount.quantize(Decimal("0.01"))
    else:
        assert from_cents(cents) == amount


@pytest.mark.parametrize(
    ("written", "cents"),
    [("100.0", 10_000), ("19.99", 1_999), ("19.990", 1_999), ("1e2", 10_000), ("0", 0), ("0E+99999", 0), ("-0.01", -1)],
)
def test_however_it_is_written_an_amount_is_the_same(written: str, cents: int) -> None:
    assert to_cents(Decimal(written)) == cents


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("0.001", "finer than a cent"),
        ("1E-99999", "finer than a cent"),
        ("10000000000000.01", "larger than 10000000000000.00"),
        ("1E+999999999", "larger than"),
        ("9" * 5_000, "larger than"),
        ("NaN", "not a finite number"),
        ("-Infinity", "not a finite number"),
    ],
)
def test_what_cannot_be_whole_cents_is_refused_at_once(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_cents(Decimal(written))


def test_an_amount_shows_both_places() -> None:
    assert str(from_cents(10_000)) == "100.00"
