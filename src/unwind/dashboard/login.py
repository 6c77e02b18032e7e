"""Logging in: a person gives the API key once, and this browser is known until the session ends."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from unwind.access import ANONYMOUS
from unwind.dashboard.pages import Pages, ThePages
from unwind.dashboard.requests import AnyRequest, local, page_before, read_form, see_other
from unwind.errors import NotFoundError
from unwind.http.access import token_of
from unwind.http.problems import RequestError
from unwind.http.sessions import log_in, log_out
from unwind.runtime.keyring import EVERYBODY, Keyring

TheKeys = NamedDependency[SkipValidation[Keyring | None]]


@get("/login", scope="open")
async def ask_key(request: AnyRequest, pages: ThePages, keys: TheKeys) -> Response[str]:
    """Ask for a key, or say whose it is that was given."""
    asked = request.query_params.get("next")
    return await _page(pages, request, keys, page_before(request) if asked is None else local(asked))


@post("/login", status_code=303, scope="open")
async def take_key(request: AnyRequest, pages: ThePages, keys: TheKeys) -> Response[str] | Response[None]:
    """Open a session, and go on where one wanted to. A key that may not be used is asked for again, and never shown."""
    form = await read_form(request)
    following = local(form.get("next", "/"))
    try:
        cookie = await log_in(_needed(keys), request, form.get("key", ""))
    except RequestError as error:
        return await _page(pages, request, keys, following, error)
    return see_other(following, {"Set-Cookie": cookie})


@post("/logout", status_code=303, scope="open")
async def forget(request: AnyRequest, keys: TheKeys) -> Response[None]:
    """End the session, where there is one."""
    return see_other("/login", {"Set-Cookie": await log_out(_needed(keys), request)})


login_routes = [ask_key, take_key, forget]


def _needed(keys: Keyring | None) -> Keyring:
    if keys is None:
        raise NotFoundError("this application knows no API keys")
    return keys


async def _page(
    pages: Pages, request: AnyRequest, keys: Keyring | None, following: str, wrong: RequestError | None = None
) -> Response[str]:
    caller = EVERYBODY if keys is None else await keys.caller(token_of(request.scope))
    return pages.render(
        "login.html",
        200 if wrong is None else wrong.kind.status,
        wrong="" if wrong is None else str(wrong),
        following=following,
        keyed=caller is not EVERYBODY,
        name=ANONYMOUS if caller is EVERYBODY else "" if caller is None else caller.name,
        scope="" if caller is None else caller.scope,
    )
