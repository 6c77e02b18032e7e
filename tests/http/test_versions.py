"""A deploy as clients and operators see it: versions beside one another, and what nobody here knows."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Raw
from tests.core.trips import Trip, approval, trip
from tests.eventually import eventually
from tests.http.conftest import check_problem
from tests.http.test_problems import ABOUT, client_of

from unwind.bootstrap import Worker, open_worker
from unwind.core.saga import Saga
from unwind.errors import DefinitionError
from unwind.http import create_app
from unwind.settings import Settings

OLD = trip(approval("boss"))
NEW = trip(approval("boss"), approval("owner"), version=2)
SHOWS = {"trip": lambda _: Raw(b'"any"'), "trip@1": lambda _: Raw(b'"the first"')}


@asynccontextmanager
async def deployed(folder: Path, sagas: Sequence[Saga[Any]]) -> AsyncIterator[tuple[Worker, httpx.AsyncClient]]:
    settings = Settings(data_dir=folder, database=folder / "unwind.db")
    async with open_worker(settings, sagas) as worker:
        app = create_app(ABOUT, worker.engine, worker.queries, worker.checks, shows=SHOWS)
        async with client_of(app) as http:
            yield worker, http


async def test_a_version_that_is_left_out_of_a_deploy_is_told_of_and_taken_up_again(tmp_path: Path) -> None:
    async with deployed(tmp_path, [OLD]) as (worker, http):
        old = (await worker.engine.start("trip", Trip())).saga_id
        assert (await http.get("/readyz")).json()["checks"]["definitions"] == {"status": "ok", "error": None}

    async with deployed(tmp_path, [NEW]) as (worker, http):

        async def noticed() -> Any:
            ready = await http.get("/readyz")
            return ready if ready.json()["checks"]["definitions"]["status"] == "degraded" else None

        ready = await eventually(noticed, within=10)
        assert (ready.status_code, ready.json()["status"]) == (200, "ok")
        assert f"1 live saga of {OLD.revision}, which this process" in ready.json()["checks"]["definitions"]["error"]
        line = f'unwind_unknown_definition_sagas{{revision="{OLD.revision}"}} 1.0'
        assert line in (await http.get("/metrics")).text.splitlines()
        check_problem(await http.post(f"/api/v1/sagas/{old}/cancel", json={}), 503, "unavailable")
        new = (await worker.engine.start("trip", Trip())).saga_id
        listed = (await http.get("/api/v1/sagas?definition=trip")).json()["sagas"]
        assert {saga["saga_id"]: saga["definition_version"] for saga in listed} == {old: 1, new: 2}

    async with deployed(tmp_path, [OLD, NEW]) as (worker, http):
        for saga_id, version, shown in ((old, 1, "the first"), (new, 2, "any")):
            saga = (await http.get(f"/api/v1/sagas/{saga_id}")).json()
            assert (saga["definition_version"], saga["context"]) == (version, shown)
        assert (await http.post(f"/api/v1/sagas/{old}/cancel", json={})).status_code == 202
        assert (await worker.engine.ended(old)).status == "compensated"
        assert (await http.get("/readyz")).json()["checks"]["definitions"]["status"] == "ok"


async def test_a_changed_definition_does_not_start_and_says_what_lives_on_the_old_one(tmp_path: Path) -> None:
    async with deployed(tmp_path, [OLD]) as (worker, _):
        await worker.engine.start(OLD, Trip())
    with pytest.raises(DefinitionError, match=f"trip version 1 was changed .*: 1 live on {OLD.revision}; give"):
        async with deployed(tmp_path, [trip(approval("chief"))]):
            pass
