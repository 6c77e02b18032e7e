"""`order-saga audit`: compares the saga log with what the three services really did.

It reads the four databases and nothing else, and shares no code with the engine: what it believes of the log it works
out itself, from the stored JSON.
"""

from order_saga.audit.audit import audit
from order_saga.audit.books import AuditError
from order_saga.audit.report import Counts, Finding, Report, Rule, Violation, render, render_json

__all__ = ["AuditError", "Counts", "Finding", "Report", "Rule", "Violation", "audit", "render", "render_json"]
