"""The dashboard put together: its routes, what holds for all of them, and its end."""

from collections.abc import Callable, Sequence

from jinja2 import BaseLoader
from litestar import Response, Router, get
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from unwind.dashboard.acts import act_routes
from unwind.dashboard.bulk import bulk_pages
from unwind.dashboard.course import Courses
from unwind.dashboard.definitions import definition_routes
from unwind.dashboard.faults import fault_page
from unwind.dashboard.house import Houses
from unwind.dashboard.letters import letter_routes
from unwind.dashboard.lists import list_routes
from unwind.dashboard.live import Live
from unwind.dashboard.login import login_routes
from unwind.dashboard.overview import overview_routes
from unwind.dashboard.pages import ASSETS, HEADERS, Link, Pages, Related, nothing_related
from unwind.dashboard.requests import AnyRequest, from_our_pages
from unwind.dashboard.saga import saga_routes
from unwind.dashboard.shares import Shares
from unwind.dashboard.system import system_routes
from unwind.dashboard.traffic import Traffics

own_routes = [
    *overview_routes,
    *list_routes,
    *saga_routes,
    *act_routes,
    *bulk_pages,
    *definition_routes,
    *system_routes,
    *letter_routes,
    *login_routes,
]
_KEPT = "public, max-age=31536000, immutable"


class Dashboard:
    """Pages over what a process knows. `router` goes to `create_app(pages=[…])`; call `stop` before the server ends."""

    def __init__(
        self,
        title: str,
        *,
        routes: Sequence[HTTPRouteHandler] = (),
        links: Sequence[Link] = (),
        templates: BaseLoader | None = None,
        related: Related = nothing_related,
        trace_url: str = "",
    ) -> None:
        """`routes`, `links` and `templates` are the application's own pages, to which `related` leads from a saga.

        `trace_url` is where a trace is looked at, with `{trace_id}` in it; empty: nowhere.
        """
        pages, live = Pages(title, links, templates, trace_url), Live()
        courses, shares, traffic, houses = Courses(), Shares(), Traffics(), Houses()
        self._stopped = (live.stop, courses.stop, shares.stop, traffic.stop, houses.stop)

        def failed(request: AnyRequest, error: Exception) -> Response[str]:
            return fault_page(pages, request, error)

        given = {
            "pages": pages,
            "live": live,
            "courses": courses,
            "shares": shares,
            "traffic": traffic,
            "houses": houses,
            "related": related,
        }
        self.router = Router(
            "/",
            route_handlers=[asset, *own_routes, *routes],
            guards=[from_our_pages],
            dependencies={name: Provide(_always(each), sync_to_thread=False) for name, each in given.items()},
            exception_handlers={Exception: failed},
        )

    def stop(self) -> None:
        """End what is open: the process is about to stop."""
        for stop in self._stopped:
            stop()


def _always(value: object) -> Callable[[], object]:
    return lambda: value


@get("/assets/{name:str}", scope="open")
async def asset(name: FromPath[str]) -> Response[bytes]:
    """A file that pages refer to, with its stamp: it may be kept."""
    found = ASSETS.get(name)
    if found is None:
        raise NotFoundException("there is no such file")
    return Response(found.body, media_type=found.media_type, headers={**HEADERS, "Cache-Control": _KEPT})
