"""The names that fail on purpose, so that every road of the saga can be tried. `docs/scripted-failures.md` tells users.

They are data of the three services, not special cases of the engine: a stock of nothing, an empty account, an address
nobody delivers to, a service that is down for some attempts, a carrier that takes its time.
"""

DEFAULT_STOCK = 1_000_000_000
"""Pieces on hand of a product seen for the first time."""
STOCK = {"product-out-of-stock": 0, "product-scarce": 5}
"""Pieces on hand of these instead."""

DEFAULT_BALANCE = 10**15
"""Cents on the account of a customer seen for the first time."""
BALANCE = {"customer-456": 10_000_00, "customer-broke": 0}
"""Cents on the accounts of these instead: `customer-456` cannot pay a hundred pieces at 10 000."""

UNDELIVERABLE_CUSTOMERS = frozenset({"customer-nowhere", "customer-closed", "customer-bank-down"})
UNDELIVERABLE_PRODUCTS = frozenset({"product-undeliverable"})

CLOSED_ACCOUNTS = frozenset({"customer-closed"})
"""Pay, and take no refund: the saga is blocked, and a person must see to it."""

FLAKY_PRODUCTS = {"product-flaky": 2}
"""How many attempts at reserving fail before one works."""
CARD_SERVICE_DOWN = {"customer-card-down": 1}
"""How many attempts at charging fail before one works."""
BANK_DOWN = {"customer-bank-down": 3}
"""How many attempts at refunding fail before one works."""

SLOW_PRODUCTS = {"product-slow": 3.0}
"""Seconds that the carrier takes to answer."""
