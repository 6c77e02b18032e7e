"""The order application in earnest: APIs, workers and services, each a process; PostgreSQL, NATS, Redis."""

import asyncio
import os
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg
from tests.servers.nats import Nats
from tests.servers.postgres import Postgres
from tests.servers.process import NoServerError, ServerProcess
from tests.servers.valkey import Valkey

PROGRAM = Path(sysconfig.get_path("scripts")) / "order-saga"
SERVICES = ("inventory", "payment", "shipment")


class Application(ServerProcess):
    """One process of the order application, answering on a port of its own."""

    READY = b" is ready"

    def __init__(self, folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """`words` are the command's, e.g. `participant inventory`."""
        super().__init__(folder)
        self.name = "-".join(words)
        self.incarnation = 0
        """How often it was started: its figures begin at zero each time."""
        self._words = words
        self._environment = environment

    def command(self) -> Sequence[str | Path]:
        return [PROGRAM, *self._words]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._environment, "SERVER_PORT": str(self.port)}

    def start(self) -> None:
        self.incarnation += 1
        super().start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


class Deployment:
    """Everything, started in order; stopped whatever happens."""

    def __init__(self, folder: Path, apis: int = 2, workers: int = 2) -> None:
        """All data is kept below `folder`."""
        self.postgres = Postgres(folder / "postgres", durable=True)
        self.nats = Nats(folder / "nats")
        self.redis = Valkey(folder / "redis")
        self.environment = {
            "DATABASE_URL": self.postgres.url("unwind"),
            **{f"{service.upper()}_DATABASE_URL": self.postgres.url(service) for service in SERVICES},
            "NATS_URL": self.nats.url,
            "REDIS_ADDR": self.redis.address,
            "UNWIND_LOG_FORMAT": "json",
            "UNWIND_DATA_DIR": str(folder),
        }
        self.apis = [self._application(folder, f"api-{number}", "api") for number in range(1, apis + 1)]
        carrying = [self._application(folder, f"worker-{number}", "worker") for number in range(1, workers + 1)]
        services = [self._application(folder, service, "participant", service) for service in SERVICES]
        self.applications = [*self.apis, *carrying, *services]
        self._stack = ExitStack()

    def _application(self, folder: Path, name: str, *words: str) -> Application:
        application = Application(folder / name, words, self.environment)
        application.name = name
        return application

    def start(self) -> None:
        """Servers, databases, tables, processes."""
        for server in (self.postgres, self.nats, self.redis):
            server.start()
            self._stack.callback(server.stop)
        # The servers' ports are known for certain only now.
        self.environment |= {"NATS_URL": self.nats.url, "REDIS_ADDR": self.redis.address}
        asyncio.run(self._make_databases())
        self.run("migrate", "up")
        for application in self.applications:
            application.start()
            self._stack.callback(application.stop)

    async def _make_databases(self) -> None:
        self.environment |= {"DATABASE_URL": self.postgres.url("unwind")}
        self.environment |= {f"{each.upper()}_DATABASE_URL": self.postgres.url(each) for each in SERVICES}
        connection = await asyncpg.connect(self.postgres.url())
        for database in ("unwind", *SERVICES):
            await connection.execute(f'create database "{database}"')
        await connection.close()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command of the application. Raises NoServerError when it cannot be run at all."""
        done = subprocess.run(
            [PROGRAM, *words],
            env={**os.environ, **self.environment},
            cwd=self.postgres.folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode > 1 or (done.returncode and words[0] != "audit"):
            raise NoServerError(f"order-saga {' '.join(words)} failed: {done.stderr}")
        return done

    async def saga_rows(self) -> Sequence[tuple[str, str, int | None]]:
        """Id, status and end (microseconds since the epoch) of every saga."""
        connection = await asyncpg.connect(self.environment["DATABASE_URL"], timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch("select id, status, ended_at from sagas")]
        finally:
            await connection.close()

    def stop(self) -> None:
        """The processes first."""
        self._stack.close()
