"""The OpenAPI 3.1 document, built from what each route says of itself; one that says nothing cannot be served."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import getdoc
from typing import Any, Literal

import msgspec
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from msgspec import Struct, field
from msgspec.structs import replace

from unwind.errors import DefinitionError
from unwind.http import problems
from unwind.http.access import API_KEY, COOKIE, OPEN, scope_of
from unwind.http.problems import Problem

Schema = Mapping[str, Any]

_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")
_PROBLEMS = {
    kind.status: kind.title
    for kind in (
        problems.MALFORMED,
        problems.UNAUTHORIZED,
        problems.FORBIDDEN,
        problems.NOT_FOUND,
        problems.STATE,
        problems.TOO_LARGE,
        problems.MEDIA,
        problems.INVALID,
        problems.TOO_MANY,
        problems.INTERNAL,
        problems.UNAVAILABLE,
    )
}

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; `unwind keys create` makes one."},
    "key": {"type": "apiKey", "in": "header", "name": API_KEY, "description": "The same, in a header of its own."},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "A browser that has logged in."},
}


class About(Struct, frozen=True):
    """What the documentation says of the whole."""

    title: str
    version: str
    description: str


class Parameter(Struct, frozen=True):
    """A query, header or path parameter."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header", "path"] = "query"


ATTRIBUTE = "attribute."
"""Before the name of an attribute in a query string."""
ATTRIBUTES = Parameter(f"{ATTRIBUTE}*", "Only sagas that have this value; several are joined by *and*.")
"""Stands for every attribute that the definitions declare."""


class Answer(Struct, frozen=True):
    """What a route answers when it worked."""

    status: int
    description: str
    body: Any = None
    """Type of the JSON body; None where `media_type` says it all."""
    media_type: str = "application/json"
    headers: Mapping[str, str] = {}
    """Name → meaning."""


class Docs(Struct, frozen=True):
    """What a route says of itself besides its docstring. Query parameters that are not listed here are refused."""

    answers: tuple[Answer, ...]
    problems: tuple[int, ...] = ()
    """Statuses of the problems besides 500."""
    tag: str = "sagas"
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    """Type of the JSON body."""
    request_required: bool = True


def docs_of(handler: BaseRouteHandler) -> Docs:
    """The `docs` of a route handler. Raises DefinitionError where there is none."""
    docs = handler.opt.get("docs")
    if not isinstance(docs, Docs):
        raise DefinitionError(f"route {handler}: say what it does with docs=Docs(…)")
    return docs


def document(
    about: About,
    handlers: Iterable[tuple[str, HTTPRouteHandler]],
    limited_under: str | None = None,
    expand: Callable[[Sequence[Parameter]], Sequence[Parameter]] = tuple,
) -> Schema:
    """The OpenAPI document of `(path, handler)` pairs; paths that begin with `limited_under` may answer 429.

    `expand` puts parameters that are known only now in the place of those that stand for them.
    """
    found = [
        (path, handler, replace(docs_of(handler), parameters=tuple(expand(docs_of(handler).parameters))))
        for path, handler in handlers
    ]
    types = [Problem, *(kind for _, _, docs in found for kind in _types(docs))]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    refs = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, handler, docs in found:
        item = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", path), {})
        for method in sorted(handler.http_methods):
            limited = limited_under is not None and path.startswith(limited_under)
            item[method.lower()] = _operation(handler, path, docs, refs, limited=limited)
    return {
        "openapi": "3.1.0",
        "info": msgspec.to_builtins(about),
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _types(docs: Docs) -> Iterator[Any]:
    if docs.request is not None:
        yield docs.request
    for given in docs.answers:
        if given.body is not None:
            yield given.body


def _operation(
    handler: HTTPRouteHandler, path: str, docs: Docs, refs: Mapping[int, Schema], *, limited: bool
) -> dict[str, Any]:
    summary, _, description = (getdoc(handler.fn) or "").partition("\n\n")
    in_path = tuple(Parameter(name, "", place="path") for name in _PATH_PARAMETER.findall(path))
    needed = scope_of(handler)
    refusals = [] if needed == OPEN else [problems.UNAUTHORIZED.status, problems.FORBIDDEN.status]
    failures = {*docs.problems, *refusals, problems.INTERNAL.status, *([problems.TOO_MANY.status] if limited else [])}
    operation: dict[str, Any] = {
        "operationId": handler.fn.__name__,
        "tags": [docs.tag],
        "summary": summary,
        "description": description,
        "security": [] if needed == OPEN else [{scheme: [needed]} for scheme in _SCHEMES],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": parameter.schema,
            }
            for parameter in in_path + docs.parameters
        ],
        "responses": {str(given.status): _response(given, refs) for given in docs.answers}
        | {str(status): _problem(status, refs) for status in sorted(failures)},
    }
    if docs.request is not None:
        content = {"application/json": {"schema": refs[id(docs.request)]}}
        operation["requestBody"] = {"required": docs.request_required, "content": content}
    return operation


def _response(given: Answer, refs: Mapping[int, Schema]) -> dict[str, Any]:
    schema = {"type": "string"} if given.body is None else refs[id(given.body)]
    headers = {
        name: {"description": meaning, "required": True, "schema": {"type": "string"}}
        for name, meaning in given.headers.items()
    }
    return {"description": given.description, "headers": headers, "content": {given.media_type: {"schema": schema}}}


def _problem(status: int, refs: Mapping[int, Schema]) -> dict[str, Any]:
    content = {problems.MEDIA_TYPE: {"schema": refs[id(Problem)]}}
    return {"description": _PROBLEMS[status], "content": content}
