"""The API's documentation: the OpenAPI document, and a page rendered from it here, without scripts or foreign hosts."""

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from unwind.http.openapi import Schema

_STYLE = files("unwind.http").joinpath("documentation.css").read_bytes()


def documentation_routes(schema: Schema) -> list[HTTPRouteHandler]:
    """Routes that serve the document at `/schema/openapi.json` and the page at `/docs`."""
    document = msgspec.json.format(msgspec.json.encode(schema))
    page = "".join(_page(schema)).encode()

    @get("/schema/openapi.json", scope="read")
    async def openapi_document() -> Response[bytes]:
        return Response(document, media_type="application/json")

    @get("/docs", scope="read")
    async def docs_page() -> Response[bytes]:
        return Response(page, media_type="text/html")

    @get("/docs/style.css", scope="read")
    async def docs_style() -> Response[bytes]:
        return Response(_STYLE, media_type="text/css")

    return [openapi_document, docs_page, docs_style]


def _page(schema: Schema) -> Iterator[str]:
    info = schema["info"]
    operations = [
        (method, path, operation) for path, item in schema["paths"].items() for method, operation in item.items()
    ]
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(info["title"])}</title><link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info['description'])}</p>"
        '<p>For tools: <a href="/schema/openapi.json">/schema/openapi.json</a> (OpenAPI 3.1)</p></header><nav><ul>'
    )
    for method, path, operation in operations:
        yield (
            f'<li><a href="#{operation["operationId"]}"><b class="{method}">{method.upper()}</b> '
            f"<code>{escape(path)}</code></a> {escape(operation['summary'])}</li>"
        )
    yield "</ul></nav><main>"
    for method, path, operation in operations:
        yield from _operation(method, path, operation)
    yield "<h2>Types</h2>"
    for name, kind in sorted(schema["components"]["schemas"].items()):
        yield from _type(name, kind)
    yield "</main></body></html>"


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield (
        f'<section id="{operation["operationId"]}"><h2><b class="{method}">{method.upper()}</b> '
        f"<code>{escape(path)}</code></h2><p>{escape(operation['summary'])} {_prose(operation['description'])}</p>"
    )
    if operation["parameters"]:
        yield "<table><caption>Parameters</caption>"
        for parameter in operation["parameters"]:
            yield (
                f"<tr><th><code>{escape(parameter['name'])}</code></th><td>in {parameter['in']}</td>"
                f"<td>{_shape(parameter['schema'])}</td><td>{_prose(parameter['description'])}</td></tr>"
            )
        yield "</table>"
    if body := operation.get("requestBody"):
        optional = "" if body["required"] else " (may be left out)"
        yield f"<p>Body{optional}: {_content(body['content'])}</p>"
    yield "<table><caption>Answers</caption>"
    for status, response in operation["responses"].items():
        yield (
            f"<tr><th>{status}</th><td>{_prose(response['description'])}</td>"
            f"<td>{_content(response['content'])}</td></tr>"
        )
    yield "</table></section>"


def _type(name: str, kind: Schema) -> Iterator[str]:
    about = _prose(kind.get("description", ""))
    yield f'<section id="type-{escape(name)}"><h3>{escape(name)}</h3><p>{about}</p><table>'
    required = kind.get("required", ())
    for field, shape in kind.get("properties", {}).items():
        mark = "" if field in required else " (optional)"
        yield f"<tr><th><code>{escape(field)}</code>{mark}</th><td>{_shape(shape)}</td></tr>"
    yield "</table></section>"


def _content(content: Schema) -> str:
    return ", ".join(f"<code>{escape(media)}</code> {_shape(body['schema'])}" for media, body in content.items())


def _prose(text: str) -> str:
    """Text whose `backticks` become code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _shape(schema: Any) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_shape(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    words = [escape(str(schema.get("type", "any JSON")))]
    if "items" in schema and isinstance(schema["items"], dict):
        words.append(f"of {_shape(schema['items'])}")
    words += [f"{key} {escape(str(value))}" for key, value in schema.items() if key not in _STRUCTURE]
    return " ".join(words)


_STRUCTURE = {"type", "items", "title", "description", "properties", "required", "additionalProperties"}
