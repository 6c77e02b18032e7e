"""No statement walks through a table, whether planned while the tables are empty or when they are full."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from unwind.ports import Move
from unwind.stores.postgres.batch import to_json
from unwind.stores.postgres.connections import connect
from unwind.stores.postgres.store import SETTINGS, SQL

pytestmark = pytest.mark.integration
KEPT = ("commits", "sagas", "snapshots", "leases", "cursors", "definitions")
FILL = """
insert into commits (stream_id, version, category, count, events, recorded_at)
select 's' || n / 5, n % 5 + 1, 'saga', 1, '', n from generate_series(1, 20000) n;
insert into sagas (id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at)
select 's' || n, 'r', 'd', case n % 9 when 0 then 'running' else 'completed' end, case n % 9 when 0 then n end, 'c',
       n, n, case n % 9 when 0 then null else n end
  from generate_series(1, 4000) n;
insert into snapshots (stream_id, version, codec, checksum, data)
select 's' || n, 5, 1, 1, '' from generate_series(1, 4000) n;
insert into attributes (saga_id, name, value, started_at)
select 's' || n, name, case name when 'own' then n::text else (n % 2)::text end, n
  from generate_series(1, 4000) n, unnest(array['own', 'half']) name;
insert into definitions select 'd' || n, 1, 'h' from generate_series(1, 500) n;
analyze
"""
FILLED = ("attributes", "commits", "sagas", "snapshots")
OTHERS = '[{"name": "own", "value": "7"}]'
USED = {
    "write": {"sagas_pkey"},
    "write_winners": {"sagas_pkey"},
    "load": {"commits_pkey", "snapshots_pkey", "leases_pkey"},
    "claim": {"sagas_due", "sagas_pkey"},
    "tail": {"commits_in_order", "cursors_pkey"},
    "clashing": {"definitions_pkey"},
    "find": {"sagas_started"},
    "find_by_id": {"sagas_pkey"},
    "find_live": {"sagas_live"},
    "live_others": {"sagas_live"},
    "living": {"sagas_live"},
    "find_by_attribute": {"attributes_found", "sagas_pkey"},
    "find_by_text": {"attributes_found", "attributes_pkey", "sagas_correlated", "sagas_pkey"},
    "tally_by_text": {"attributes_found", "attributes_pkey", "sagas_correlated", "sagas_pkey"},
    "tally": {"sagas_started", "attributes_pkey"},
    "tally_by_attribute": {"attributes_found", "attributes_pkey", "sagas_pkey"},
    "paces": {"sagas_started", "sagas_ended"},
    "ended": {"sagas_ended"},
}
"""The indexes of each statement that looks something up; the others only insert."""


@pytest.fixture
async def connection(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(store_url, SETTINGS)
    yield connection
    await connection.close()


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def plan_of(connection: asyncpg.Connection, name: str) -> list[dict[str, Any]]:
    places = max(map(int, re.findall(r"\$(\d+)", SQL[name])))
    await connection.execute(f"prepare {name} as {SQL[name]}")
    nothing = ", ".join(["null"] * places)
    plan = await connection.fetchval(f"explain (format json) execute {name} ({nothing})")
    await connection.execute(f"deallocate {name}")
    return nodes(json.loads(plan)[0]["Plan"])


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("name", USED)
async def test_every_statement_finds_its_rows_by_an_index(
    connection: asyncpg.Connection, name: str, filled: bool
) -> None:
    if filled:
        await connection.execute(FILL)
    plan = await plan_of(connection, name)
    walks = [(node["Node Type"], node["Relation Name"]) for node in plan if node["Node Type"] == "Seq Scan"]
    assert walks == []
    looks = [node for node in plan if "Index Name" in node and node.get("Relation Name") != "leases"]
    assert USED[name] <= {node["Index Name"] for node in plan if "Index Name" in node}
    # Not from one end of the index to the other either.
    assert [node for node in looks if "Index Cond" not in node] == []


async def test_a_full_database_is_worked_on_without_a_walk(connection: asyncpg.Connection) -> None:
    """Counted by the server: so it holds for functions too."""
    await connection.execute(FILL)
    appends = to_json(
        [{"stream": f"n{n}", "version": 1, "category": "saga", "count": 1, "size": 0} for n in range(256)]
    )
    asked = to_json({f"s{n}": 0 for n in range(0, 2_560, 10)})
    wake_ups = to_json({f"s{n}": 1 for n in range(0, 2_560, 10)})
    moves = to_json([Move(f"s{n}", n, 9, 5) for n in range(9, 2_000, 9)])
    calls: dict[str, list[Any]] = {
        "write": [None, appends, b"", "[]", wake_ups, "[]", b""],
        "write_winners": [None, appends, b"", "[]", wake_ups, "[]", b"", "[]", b""],
        "load": [None, asked, True],
        "claim": [10_000, ["r"], 256, 1_000],
        "move": [moves],
        "tail": ["c", 256],
        "find": [0, 10_000, 10_000, "", None, "", 50],
        "find_by_id": [0, 10_000, 10_000, "", None, "", 50, ["s1", "s2"]],
        "find_live": [0, 10_000, 10_000, "", None, "", 50, None, "r"],
        "live_others": [["q"], 10_000],
        "living": [None, ["r"]],
        "find_by_attribute": [0, 10_000, 10_000, "", None, "", 50, "half", "1", OTHERS, None, ""],
        "find_by_text": [0, 10_000, 10_000, "", None, "", 50, "s12", "s13", OTHERS, None, ""],
        "tally_by_text": [0, 10_000, None, "", None, '{"d": "own"}', OTHERS, "s12", "s13"],
        "tally": [0, 10_000, None, "", None, '{"d": "own"}'],
        "tally_by_attribute": [0, 10_000, None, "", None, '{"d": "own"}', "half", "1", OTHERS],
        "paces": [None, 3_900, 60],
        "ended": ["d", 50],
    }
    async with connection.transaction():
        for name, parameters in calls.items():
            await connection.fetch(SQL[name], *parameters)
        counts = await connection.fetch("select relname, seq_scan, idx_scan from pg_stat_xact_user_tables")
    walked = {name: walks for name, walks, _ in counts if name in {*FILLED}}
    assert walked == dict.fromkeys(FILLED, 0)
    assert {name for name, _, looks in counts if looks} >= {*FILLED}


async def test_a_page_by_an_attribute_reads_no_more_than_its_rows(connection: asyncpg.Connection) -> None:
    """However many sagas have the value: the index has the order, nothing is sorted."""
    await connection.execute(FILL)
    plan = await plan_of(connection, "find_by_attribute")
    assert [node for node in plan if node["Node Type"] in {"Sort", "Incremental Sort"}] == []
    looks = [node["Index Cond"] for node in plan if node.get("Index Name") == "attributes_found"]
    assert any(all(part in look for part in ("name =", "value =", "started_at >=", "started_at <")) for look in looks)
    # Of each row another attribute is looked up alone, never among all that have its value.
    assert all("saga_id =" in look and "started_at =" in look for look in looks if "started_at <" not in look)


async def test_a_commit_without_attributes_does_not_touch_their_table(connection: asyncpg.Connection) -> None:
    for name in ("write", "write_winners"):
        assert all(node.get("Relation Name") != "attributes" for node in await plan_of(connection, name))
