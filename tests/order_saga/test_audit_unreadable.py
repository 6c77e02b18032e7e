"""Databases that cannot be audited: one line that says which, and what to do."""

import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.order_saga.services import SERVICES, execute, files, open_services, server
from tests.order_saga.world import open_world
from tests.servers import postgres
from tests.servers.process import free_port

from order_saga.audit import AuditError, audit
from unwind.settings import Database, Server


async def audited(databases: Mapping[str, Database]) -> None:
    await audit(databases["engine"], *(databases[name] for name in SERVICES))


async def build(databases: Mapping[str, Database]) -> None:
    async with open_world(databases):
        pass


# --------------------------------------------------------------------------------------------------------------- files


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    databases = files(tmp_path)
    await build(databases)
    (tmp_path / "payment.db").unlink()
    with pytest.raises(
        AuditError, match=r"^payment: .*payment\.db does not exist; name the database in PAYMENT_DATABASE_URL"
    ):
        await audited(databases)


async def test_the_file_of_another_service(tmp_path: Path) -> None:
    databases = files(tmp_path)
    await build(databases)
    shutil.copy(tmp_path / "inventory.db", tmp_path / "payment.db")
    with pytest.raises(AuditError, match=r"payment\.db: no such table: ledger; is this the file of payment\?$"):
        await audited(databases)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    databases = files(tmp_path)
    await build(databases)
    (tmp_path / "shipment.db").write_bytes(b"something else " * 100)
    with pytest.raises(AuditError, match=r"^shipment: .* is not a database; name the SQLite file that the application"):
        await audited(databases)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "told"),
    [
        (0o444, 0o555, "engine.db: attempt to write a readonly database"),
        (0o000, 0o555, "engine.db: unable to open database file"),
        (0o444, 0o000, "engine.db cannot be read: Permission denied"),
    ],
    ids=["folder not to be written", "file not to be read", "folder not to be entered"],
)
async def test_what_may_not_be_read_by_this_user(
    folder_of_mine: Path, file_mode: int, folder_mode: int, told: str
) -> None:
    databases = files(folder_of_mine)
    await build(databases)
    with modes(folder_of_mine, file_mode, folder_mode), nobody(), pytest.raises(AuditError) as found:
        await audited(databases)
    assert str(found.value).startswith(f"the saga log: {folder_of_mine}/{told}; SQLite needs to write files beside it")
    assert "run this as the user whom the application runs as" in str(found.value)


@pytest.fixture
def folder_of_mine(open_folder: Path) -> Path:
    open_folder.chmod(0o755)
    folder = open_folder / "data"
    folder.mkdir()
    return folder


@contextmanager
def modes(folder: Path, file_mode: int, folder_mode: int) -> Iterator[None]:
    for file in folder.iterdir():
        file.chmod(file_mode)
    folder.chmod(folder_mode)
    try:
        yield
    finally:
        folder.chmod(0o755)


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read and write everything: then it is another user who asks."""
    us = os.geteuid()
    if us == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(us)


# ------------------------------------------------------------------------------------------------------------- servers


@pytest.mark.integration
async def test_who_may_only_read_may_audit(served: Mapping[str, Database]) -> None:
    await build(served)
    reader = dict(served)
    for name, database in served.items():
        assert isinstance(database, Server)
        parts = urlsplit(database.url.reveal)
        reader[name] = server(parts._replace(netloc=f"auditor@{parts.hostname}:{parts.port}").geturl())
    await execute(served["engine"], "drop role if exists auditor", "create role auditor login")
    for database in served.values():
        await execute(database, "grant usage on schema public to auditor")
    with pytest.raises(AuditError, match=r"permission denied for table \w+; its user needs SELECT on all tables$"):
        await audited(reader)
    for database in served.values():
        await execute(database, "grant select on all tables in schema public to auditor")
    await audited(reader)
    for database in served.values():
        await execute(database, "drop owned by auditor")
    await execute(served["engine"], "drop role auditor")


@pytest.mark.integration
async def test_a_database_without_its_tables(served: Mapping[str, Database]) -> None:
    async with open_services(served):
        pass
    told = 'the saga log: PostgreSQL at .*: relation "commits" does not exist; is this the database of the saga log'
    with pytest.raises(AuditError, match=told):
        await audited(served)


@pytest.mark.integration
async def test_a_database_that_is_not_there(served: Mapping[str, Database]) -> None:
    await build(served)
    engine = served["engine"]
    assert isinstance(engine, Server)
    nowhere = server(urlsplit(engine.url.reveal)._replace(path="/nowhere").geturl())
    with pytest.raises(AuditError, match='/nowhere: database "nowhere" does not exist; create it, or name another'):
        await audited({**served, "payment": nowhere})


@pytest.mark.integration
async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    databases = files(tmp_path)
    await build(databases)
    port = free_port()
    absent = server(f"postgres://someone:s3cret@127.0.0.1:{port}/shipment")
    with pytest.raises(
        AuditError, match=rf"^shipment: PostgreSQL at 127.0.0.1:{port}/shipment: .*is the server up"
    ) as found:
        await audited({**databases, "shipment": absent})
    assert "s3cret" not in str(found.value)


@pytest.mark.integration
async def test_a_wrong_password_is_not_told(tmp_path: Path, open_folder: Path) -> None:
    databases = files(tmp_path)
    await build(databases)
    with postgres.running(open_folder / "postgres", password="right") as running:
        wrong = server(running.url().replace("right", "wr0ng"))
        with pytest.raises(AuditError, match=r"check user and password in its URL$") as found:
            await audited({**databases, "engine": wrong})
    assert "wr0ng" not in str(found.value)
