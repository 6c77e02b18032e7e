"""Lists who may call which route, from the code: `python -m tools.list_routes` writes docs/routes.md."""

from collections.abc import Sequence
from pathlib import Path
from secrets import token_bytes

from litestar import Router

from order_saga.api import order_routes
from order_saga.order_form import ORDER_LINKS, ORDER_TEMPLATES, order_pages
from unwind.access import SCOPES
from unwind.buses.memory import MemoryBus
from unwind.dashboard import Dashboard
from unwind.http import About, create_app
from unwind.http.access import OPEN, scopes_in
from unwind.http.app import Guarded
from unwind.runtime.bulk import Bulk
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.keyring import Keyring
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_keys import MemoryKeys

TARGET = Path(__file__).parent.parent / "docs" / "routes.md"


def application(keys: Keyring | None = None, pages: Sequence[Router] = ()) -> Guarded:
    """The order application with everything that it may serve, on nothing."""
    clock, store = SystemClock(), MemoryStore(lambda: 0)
    engine = Engine(store, MemoryBus(clock), [], clock=clock, worker="w", new_id=str, jitter=lambda: 0.5)
    queries = Queries(store)
    return create_app(
        About("Orders", "1", "For its table"),
        engine,
        queries,
        {},
        routes=order_routes,
        provide={"new_id": str},
        bulk=Bulk(engine, queries, clock, str),
        keys=keys or Keyring(MemoryKeys(lambda: 0), clock, token_bytes),
        pages=pages,
    )


def pages() -> Router:
    """Its pages, to go with it."""
    return Dashboard("Orders", routes=order_pages, links=ORDER_LINKS, templates=ORDER_TEMPLATES).router


def document() -> str:
    """The page."""
    columns = (OPEN, *SCOPES)
    lines = [
        "# Who may call what",
        "",
        "Written from the code by `python -m tools.list_routes`; a test compares. *open*: answered to everybody.",
        "Otherwise a key with one of the scopes marked `x` is needed, as soon as there are keys",
        "([access.md](access.md)).",
        "",
        f"| route | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for path, method, scope in sorted(scopes_in(application(pages=[pages()]).inner)):
        first = columns.index(scope)
        marks = ["x" if index >= first else "" for index in range(len(columns))]
        lines.append(f"| `{method} {path}` | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    print(f"wrote {TARGET.name}")
