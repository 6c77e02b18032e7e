"""The dashboard: pages on which people see sagas and steer them, and what an application adds pages of its own with."""

from unwind.dashboard.app import Dashboard
from unwind.dashboard.pages import Link, Pages, Related, ThePages
from unwind.dashboard.requests import Form, read_form, see_other
from unwind.runtime.queries import SagaView

__all__ = ["Dashboard", "Form", "Link", "Pages", "Related", "SagaView", "ThePages", "read_form", "see_other"]
