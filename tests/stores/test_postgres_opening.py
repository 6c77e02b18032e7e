"""Opening a database that cannot be used: one line that says what to do, and no secret in it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.servers.postgres import Postgres, running

from unwind.errors import SettingsError, UnavailableError, UnwindError
from unwind.stores.postgres.connections import parse_url
from unwind.stores.postgres.store import PostgresStore
from unwind.testing.store_examples import stored, unit

pytestmark = pytest.mark.integration
SECRET = "s3cr3t-w0rd"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Postgres]:
    """A server that asks for a password."""
    temporary = TemporaryDirectory(prefix="unwind-test-", ignore_cleanup_errors=True)
    with temporary as folder, running(Path(folder), password=SECRET) as server:
        yield server


async def refusal(url: str) -> tuple[type[UnwindError], str]:
    with pytest.raises((SettingsError, UnavailableError)) as caught:
        await PostgresStore.open(url)
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return type(caught.value), text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (SECRET, "wrong" + SECRET[::-1], "refuses user postgres: check the user and the password in the URL"),
        (f":{SECRET}", "", "refuses user postgres: check the user and the password in the URL"),
        ("//postgres:", "//nobody_known:", "refuses user nobody_known: check the user and the password in the URL"),
        ("/postgres?", "/absent?", "absent: there is no such database; create it, or name another one"),
        ("sslmode=disable", "sslmode=require", "does not offer TLS; set sslmode=disable, or mend the server"),
        ("sslmode=disable", "sslmode=perhaps", "the driver does not understand this URL; check its options"),
        ("sslmode=disable", "connect_timeout=soon", "the driver does not understand this URL; check its options"),
        (
            "sslmode=disable",
            "sslmode=verify-full&sslrootcert=/nowhere",
            "a file that the URL names for TLS is not there",
        ),
        ("sslmode=disable", "colour=red", 'unrecognized configuration parameter "colour"'),
        ("?", "?", "postgres: it has no tables yet; run: unwind migrate up"),
    ],
)
async def test_what_waiting_will_not_mend_is_a_wrong_setting(
    guarded: Postgres, old: str, new: str, expected: str
) -> None:
    kind, text = await refusal(guarded.url().replace(old, new, 1))
    assert kind is SettingsError
    assert f"127.0.0.1:{guarded.port}/" in text
    assert expected in text


@pytest.mark.parametrize("sign", ["/", "#", "?", "[", "@", "%"])
async def test_a_password_with_signs_in_it_is_not_shown_either(guarded: Postgres, sign: str) -> None:
    with pytest.raises((SettingsError, UnavailableError)) as caught:
        await PostgresStore.open(guarded.url().replace(SECRET, f"{SECRET}{sign}x{SECRET}"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
async def test_a_server_that_cannot_be_reached_is_waited_for(host: str) -> None:
    kind, text = await refusal(f"postgres://postgres:{SECRET}@{host}/x?sslmode=disable")
    assert kind is UnavailableError
    assert text.startswith(f"PostgreSQL at {host}/x cannot be reached: ")


async def test_a_server_with_no_place_left_is_waited_for(guarded: Postgres) -> None:
    connection = await asyncpg.connect(guarded.url())
    await connection.execute("create role few login connection limit 0 password 'x'")
    kind, text = await refusal(guarded.url().replace(f"postgres:{SECRET}", "few:x"))
    await connection.execute("drop role few")
    await connection.close()
    assert kind is UnavailableError
    assert "too many connections" in text


@pytest.mark.parametrize("version", ["999", "of another program"])
async def test_a_database_of_another_program_is_left_alone(store_url: str, version: str) -> None:
    connection = await asyncpg.connect(store_url)
    await connection.execute("update alembic_version set version_num = $1", version)
    await connection.close()
    kind, text = await refusal(store_url)
    assert kind is SettingsError
    assert "a newer version wrote it" in text or "a database of another program" in text


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@pytest.mark.parametrize(
    "options",
    [
        "sslmode=disable",
        "sslmode=prefer&connect_timeout=3&application_name=shop&keepalives=1&target_session_attrs=read-write",
        "",
    ],
)
async def test_urls_are_taken_as_users_write_them(store_url: str, scheme: str, options: str) -> None:
    store = await PostgresStore.open(urlsplit(store_url)._replace(scheme=scheme, query=options).geturl())
    await store.commit([unit("s")])
    connection = await asyncpg.connect(store_url)
    named = "select distinct application_name from pg_stat_activity where datname = current_database() and pid <> $1"
    names = [name for [name] in await connection.fetch(named, connection.get_server_pid())]
    assert names == ["shop" if "shop" in options else "unwind"]
    assert await stored(store) == [("s", 1)]
    await connection.close()
    await store.close()


def test_options_keep_their_meaning_on_the_way_to_the_driver() -> None:
    address = parse_url("postgres://a:p%40ss@h:1/d?options=-c%20search_path%3Dx%2Cy&pooled=true&connect_timeout=2.5")
    assert address.dsn == "postgres://a:p%40ss@h:1/d?options=-c%20search_path%3Dx%2Cy"
    assert (address.pooled, address.connect, address.application_name) == (True, 2.5, None)


async def test_each_connection_has_its_limits(store_url: str) -> None:
    store = await PostgresStore.open(store_url)
    async with store._writers.connection() as connection:
        shown = {
            name: await connection.fetchval(f"show {name}") for name in ("statement_timeout", "lock_timeout", "jit")
        }
        end = connection._transport.get_extra_info("socket")
        kept_alive = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert shown == {"statement_timeout": "12s", "lock_timeout": "8s", "jit": "off"}
    assert kept_alive == 1
    await store.close()
