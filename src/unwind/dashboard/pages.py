"""How pages leave: from templates that escape whatever they show, under a policy that lets in nothing foreign."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from litestar import Response
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from unwind.dashboard.words import WORDS
from unwind.runtime.queries import SagaView

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    # Not `no-referrer`: under that browsers send forms with `Origin: null`, which is nobody's.
    "Referrer-Policy": "same-origin",
}
_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(Struct, frozen=True):
    """A file that pages refer to."""

    body: bytes
    media_type: str


def _assets() -> Mapping[str, Asset]:
    found = files("unwind.dashboard").joinpath("assets").iterdir()
    return {
        each.name: Asset(each.read_bytes(), _KINDS[each.name.rpartition(".")[2]])
        for each in found
        if each.name.rpartition(".")[2] in _KINDS
    }


ASSETS = _assets()
"""By name."""
STAMP = blake2b(b"".join(ASSETS[name].body for name in sorted(ASSETS)), digest_size=6).hexdigest()
"""Changes with them, so that browsers may keep them for good."""


class Link(Struct, frozen=True):
    """A page in the navigation."""

    text: str
    path: str


OURS = (
    Link("Overview", "/"),
    Link("Sagas", "/sagas"),
    Link("Definitions", "/definitions"),
    Link("System", "/system"),
)


Related = Callable[[SagaView], Sequence[Link]]
"""What an application has about a saga, on pages of its own: an order, say. The saga's context is as it is stored."""


def nothing_related(_: SagaView) -> Sequence[Link]:
    """There is nothing else."""
    return ()


class Pages:
    """Makes pages. `title` stands above all of them, `links` behind the dashboard's own."""

    def __init__(
        self, title: str, links: Sequence[Link] = (), templates: BaseLoader | None = None, trace_url: str = ""
    ) -> None:
        """`templates` are the application's own; they may extend `frame.html`."""
        own = PackageLoader("unwind.dashboard")
        self._environment = Environment(
            loader=own if templates is None else ChoiceLoader([own, templates]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(application=title, links=[*OURS, *links], stamp=STAMP, trace_url=trace_url)
        self._environment.filters.update(WORDS)

    def render(self, template: str, status: int = 200, /, **values: Any) -> Response[str]:
        """A page as an answer."""
        text = self._environment.get_template(template).render(values)
        return Response(text, status_code=status, media_type="text/html", headers=HEADERS)


ThePages = NamedDependency[SkipValidation[Pages]]
TheRelated = NamedDependency[SkipValidation[Related]]
