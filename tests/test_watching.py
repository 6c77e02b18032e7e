"""Dashboards and alerts ask for what a real run exports, by the labels it has; each alert is tested and explained."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.conftest import serving
from tests.eventually import eventually
from tests.servers import prometheus
from tests.servers.collector import collecting
from tests.servers.process import or_skipped
from tests.test_deploy import BOARDS, DEPLOY, PROMETHEUS, ROOT, is_blocked, orders

from unwind.runtime.telemetry import Telemetry

RULES = yaml.safe_load((DEPLOY / "prometheus/rules/unwind.yml").read_text())["groups"][0]["rules"]
TESTS = yaml.safe_load((DEPLOY / "prometheus/rules/unwind_test.yml").read_text())["tests"]
GUIDE = (ROOT / "docs/metrics.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
OF_PROMETHEUS = {"up": {"job", "process", "instance"}}
"""What Prometheus adds: to everything, and by itself."""
ADDED = {"job", "process", "instance"}
ALLOWED = {"definition", "step", "outcome", "le", "service", "revision"}
EXAMPLE = {"definition": "order_saga", "__rate_interval": "1m"}

COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"

Exported = dict[str, set[str]]


def queries() -> list[str]:
    """What the dashboards and alerts ask, the variables of Grafana filled in."""
    return [query for _, query in panels()] + [rule["expr"] for rule in RULES]


def panels() -> list[tuple[str, str]]:
    """The title of each panel and what it asks, once for each query of it."""
    return [
        (panel["title"], re.sub(r"\$(\w+)", lambda found: EXAMPLE[found[1]], target["expr"]))
        for board in BOARDS.values()
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def parts(expression: Any) -> Iterator[Any]:
    """An expression of PromQL, and all that it is made of."""
    yield expression
    inner = [getattr(expression, name, None) for name in ("expr", "lhs", "rhs", "param", "vector_selector")]
    for part in (*inner, *getattr(expression, "args", ())):
        if part is not None and not isinstance(part, str):
            yield from parts(part)


@cache
def parsed() -> dict[str, list[Any]]:
    return {query: list(parts(promql.parse(query))) for query in queries()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Names and labels of `/metrics` after a real run, with traces."""
    with collecting() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv(COLLECTOR, collector.url)
        return exported_by(asyncio.run(scraped(tmp_path_factory.mktemp("orders"), collector.url)))


async def scraped(folder: Path, collector: str) -> str:
    async with orders(folder, **{COLLECTOR: collector}) as client:
        await run_through(client)
        return (await client.get("/metrics")).text


async def run_through(client: httpx.AsyncClient) -> None:
    """Orders that complete, are undone, and need a person."""
    customers = ("customer-1", "customer-card-down", "customer-broke", "customer-closed", "customer-closed")
    [*_, written_off, stuck] = [f"/api/v1/sagas/{await placed(client, customer)}" for customer in customers]
    for saga in (written_off, stuck):
        await eventually(partial(is_blocked, client, saga), within=20)
    (await client.post(f"{written_off}/skip", json={"reason": "written off"})).raise_for_status()


async def placed(client: httpx.AsyncClient, customer: str) -> str:
    order = {"customer_id": customer, "items": [{"product_id": "product-1", "quantity": 1, "price": 20}]}
    return str((await client.post("/api/v1/orders", json=order)).json()["saga_id"])


def exported_by(text: str) -> Exported:
    found: Exported = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name + ("_total" if family.type == "counter" else ""), set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_query_asks_for_what_is_exported_by_labels_that_it_has(exported: Exported) -> None:
    exported = exported | OF_PROMETHEUS
    for query, found in parsed().items():
        selectors = [part for part in found if isinstance(part, promql.VectorSelector)]
        assert selectors, query
        for selector in selectors:
            assert selector.name in exported, query
        # One that has no samples in this run has its labels in the guide.
        labels = set.union(*(exported[str(each.name)] | documented(str(each.name)) for each in selectors)) | ADDED
        for selector in selectors:
            assert {matcher.name for matcher in selector.matchers.matchers} <= labels, query
        for part in found:
            if isinstance(part, promql.AggregateExpr) and part.modifier is not None:
                assert set(part.modifier.labels) <= labels, query


def test_buckets_are_named_as_they_are_exported() -> None:
    named = {
        matcher.value
        for found in parsed().values()
        for part in found
        if isinstance(part, promql.VectorSelector)
        for matcher in part.matchers.matchers
        if matcher.name == "le"
    }
    told = Telemetry()
    told.expect(["trip"])
    assert named
    assert named <= set(re.findall(r'saga_duration_seconds_bucket\{.*le="([^"]+)"', told.render().decode()))


def asked_for() -> set[str]:
    """The metrics of all queries."""
    return {str(part.name) for found in parsed().values() for part in found if isinstance(part, promql.VectorSelector)}


def test_everything_that_is_exported_is_on_a_dashboard_and_in_the_guide(exported: Exported) -> None:
    asked = asked_for()
    for name in exported:
        family = re.sub(r"_(bucket|count|sum|created)$", "", name)
        assert any(each == name or re.sub(r"_(bucket|count|sum)$", "", each) == family for each in asked), name
        assert f"`{family}`" in GUIDE, f"{family} is not in docs/metrics.md"


def test_labels_are_few(exported: Exported) -> None:
    assert set.union(*exported.values()) <= ALLOWED
    for name, labels in exported.items():
        assert labels <= documented(name) | {"le"}, name


def documented(name: str) -> set[str]:
    """The labels that the guide says a metric has."""
    family = re.sub(r"_(bucket|count|sum)$", "", name)
    row = re.search(rf"^\| `{family}` \| ([^|]*) \|", GUIDE, re.MULTILINE)
    return set() if row is None else set(re.findall(r"\w+", row[1])) | ({"le"} if family != name else set())


def test_the_guide_speaks_of_nothing_else() -> None:
    named = set(re.findall(r"^\| `(\w+)` \| [^|]*\|", GUIDE, re.MULTILINE))
    asked = asked_for()
    assert named <= {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}


# --------------------------------------------------------------------------------------------------------------- alerts


def test_each_alert_is_tested_both_ways() -> None:
    fires = {check["alertname"] for test in TESTS for check in test["alert_rule_test"] if check["exp_alerts"]}
    silent = {check["alertname"] for test in TESTS for check in test["alert_rule_test"] if not check["exp_alerts"]}
    assert fires == silent == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/operating.md"
    assert anchor == rule["alert"].lower()
    assert f"### {rule['alert']}\n" in OPERATING
    assert re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]) or "$labels" not in str(rule["annotations"])


def test_prometheus_reads_the_rules_where_compose_puts_them() -> None:
    assert PROMETHEUS["rule_files"] == ["rules/unwind.yml"]
    assert "- ./prometheus/rules:/etc/prometheus/rules:ro" in (DEPLOY / "compose.yaml").read_text()


@pytest.mark.integration
def test_the_alerts_tests_hold() -> None:
    with or_skipped():
        promtool = prometheus.program("promtool")
    for command in (["check", "rules", "unwind.yml"], ["test", "rules", "unwind_test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=DEPLOY / "prometheus/rules", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------------ by Prometheus


async def scraped_again(watched: prometheus.Prometheus) -> bool | None:
    """Whether there is enough for a rate of what happened, and each rule has been evaluated."""
    often = watched.ask("query", query="count_over_time(up[1m]) > 3")["result"]
    (group,) = watched.ask("rules")["groups"]
    return (bool(often) and all(rule["health"] != "unknown" for rule in group["rules"])) or None


@pytest.mark.integration
async def test_prometheus_answers_every_panel_and_rule_from_a_real_run(tmp_path: Path) -> None:
    rules = DEPLOY / "prometheus/rules/unwind.yml"
    async with AsyncExitStack() as stack:
        collector = stack.enter_context(collecting())
        server = stack.enter_context(serving(tmp_path, **{COLLECTOR: collector.url}))
        with or_skipped():
            target = server.url.removeprefix("http://")
            watched = stack.enter_context(prometheus.watching(tmp_path / "p", target, rules, process="serve"))
        async with httpx.AsyncClient(base_url=server.url) as client:
            await run_through(client)
        await eventually(partial(scraped_again, watched), within=20)
        empty = {panel for panel, query in panels() if not watched.ask("query", query=query)["result"]}
        assert empty == {"Sagas of unknown definitions"}  # there are none
        (group,) = watched.ask("rules")["groups"]
        assert {rule["name"]: rule["health"] for rule in group["rules"]} == {rule["alert"]: "ok" for rule in RULES}
