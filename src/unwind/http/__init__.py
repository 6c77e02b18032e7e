"""The HTTP API over sagas, and what an application needs to add its own routes to it."""

from unwind.http.app import create_app, create_watch_app
from unwind.http.bodies import read_json
from unwind.http.openapi import About, Answer, Docs, Parameter
from unwind.http.problems import FieldError, Problem, RequestError, invalid
from unwind.http.sagas import AnyRequest, TheEngine, TheQueries
from unwind.http.sessions import log_in, log_out
from unwind.http.submissions import IDEMPOTENCY_KEY, TRACEPARENT, Submission, submission

__all__ = [
    "IDEMPOTENCY_KEY",
    "TRACEPARENT",
    "About",
    "Answer",
    "AnyRequest",
    "Docs",
    "FieldError",
    "Parameter",
    "Problem",
    "RequestError",
    "Submission",
    "TheEngine",
    "TheQueries",
    "create_app",
    "create_watch_app",
    "invalid",
    "log_in",
    "log_out",
    "read_json",
    "submission",
]
