"""`order-saga audit`: compares the saga log with what the three services really did.

It reads the four databases and nothing else, and shares no code with the engine: what it believes of the log it works
out itself, from the stored JSON.
"""

from order_saga.audit.audit import AuditError, audit
from order_saga.audit.report import Finding, Report, Rule, Violation, render

__all__ = ["AuditError", "Finding", "Report", "Rule", "Violation", "audit", "render"]
