"""Trino and Presto through their own client libraries, against a coordinator that keeps to the protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from servers.presto.cluster import Cluster, ClusterError
from servers.presto.engine import Asker, EngineError, Estimate, Limits, Overwrite
from servers.presto.names import TableName
from servers.presto.presto_library import Presto
from servers.presto.queries import Queries, State
from servers.presto.statement_engine import StatementEngine, read_plan
from servers.presto.trino_library import Trino
from tests.servers.presto.coordinator import Coordinator, coordinating, failure

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANA = Asker("user:sso:ana", "sso", "ana", "ide", {"traceparent": TRACE})
BOT = Asker("workload:spiffe://corp.example/ns/prod/sa/report-bot", surface="report-bot")
LIMITS = Limits(1000, 1_000_000, 20)
PRICES = TableName("hive", "web", "prices")


class World:
    def __init__(self, kind: Literal["trino", "presto"], fake: Coordinator, port: int) -> None:
        self.kind = kind
        self.fake = fake
        self.cluster = Cluster(
            "127.0.0.1", port, "hive", "web", frozenset({"hive"}), scheme="http", users_of="sso"
        )
        self.engine = self.with_cluster(self.cluster)

    def with_cluster(self, cluster: Cluster) -> StatementEngine:
        return StatementEngine(Trino() if self.kind == "trino" else Presto(), cluster)

    def fetch(self, sql: str, limits: Limits = LIMITS, asker: Asker = ANA) -> tuple[tuple[object, ...], ...]:
        return self.engine.start(asker, sql).fetch(limits).rows


@pytest.fixture(params=["trino", "presto"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with coordinating(request.param) as (fake, port):
        fake.run("create table prices (id integer, price decimal(10, 2))")
        fake.run("insert into prices select i, i from range(10) t(i)")
        yield World(request.param, fake, port)


class TestQueries:
    def test_all_pages_come(self, world: World) -> None:
        found = world.engine.start(ANA, "SELECT id, price FROM prices ORDER BY 1").fetch(LIMITS)
        assert [column.name for column in found.columns] == ["id", "price"]
        assert found.rows == tuple((i, f"{i}.00") for i in range(10))
        assert found.cut_by is None
        assert [seen.method for seen in world.fake.seen] == ["POST", *["GET"] * 7]
        assert not world.fake.cancelled.is_set()

    def test_nothing_at_all(self, world: World) -> None:
        found = world.engine.start(ANA, "SELECT id FROM prices WHERE id < 0").fetch(LIMITS)
        assert (found.rows, [column.name for column in found.columns]) == ((), ["id"])

    def test_a_cut_result_is_cancelled_at_the_coordinator(self, world: World) -> None:
        found = world.engine.start(ANA, "SELECT id FROM prices").fetch(Limits(4, 1000, 20))
        assert (len(found.rows), found.cut_by) == (4, "rows")
        assert world.fake.cancelled.is_set()
        found = world.engine.start(ANA, "SELECT id FROM prices").fetch(Limits(100, 12, 20))
        assert found.cut_by == "bytes"

    def test_who_asks_and_for_how_long(self, world: World) -> None:
        world.fetch("SELECT 1", Limits(10, 1000, 33))
        prefix = world.fake.prefix
        headers = world.fake.seen[0].headers
        assert headers[f"{prefix}user"] == "ana"
        assert headers[f"{prefix}source"] == "gatehouse-presto"
        assert headers[f"{prefix}client-tags"] == "gatehouse,surface:ide"
        assert headers[f"{prefix}session"] == "query_max_run_time=33s"
        assert (headers[f"{prefix}catalog"], headers[f"{prefix}schema"]) == ("hive", "web")
        assert headers[f"{prefix}time-zone"] == "UTC"
        assert headers["traceparent"] == TRACE
        assert headers[f"{prefix}trace-token"] == "0af7651916cd43dd8448eb211c80319c"
        other = "x-presto-" if prefix == "x-trino-" else "x-trino-"
        assert not [name for name in headers if name.startswith(other)]
        assert {seen.headers[f"{prefix}user"] for seen in world.fake.seen} == {"ana"}

    def test_a_service_asks_as_this_server(self, world: World) -> None:
        world.fetch("SELECT 1", asker=BOT)
        assert world.fake.seen[0].headers[f"{world.fake.prefix}user"] == "gatehouse-presto"

    def test_all_as_this_server_where_so_configured(self, world: World) -> None:
        engine = world.with_cluster(replace(world.cluster, run_as="service"))
        engine.start(ANA, "SELECT 1").fetch(LIMITS)
        headers = world.fake.seen[0].headers
        assert headers[f"{world.fake.prefix}user"] == "gatehouse-presto"
        assert headers[f"{world.fake.prefix}client-tags"] == "gatehouse,surface:ide,user:sso:ana"

    @pytest.mark.parametrize(
        "asker",
        [
            replace(ANA, issuer="partners"),
            replace(ANA, user="ana\r\nx-trino-user: root"),
            replace(ANA, user="änna"),
            replace(ANA, user="a" * 300),
        ],
    )
    def test_a_user_that_the_cluster_can_not_know_reaches_nothing(self, world: World, asker: Asker) -> None:
        with pytest.raises(EngineError, match="Ask its owner"):
            world.fetch("SELECT 1", asker=asker)
        assert world.fake.seen == []


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (failure("SYNTAX_ERROR"), "line 1:8: it is wrong. The SQL here is "),
            (failure("COLUMN_NOT_FOUND"), "describe_table"),
            (failure("PERMISSION_DENIED", message="Access Denied: prices"), "Access Denied"),
            (failure("EXCEEDED_LOCAL_MEMORY_LIMIT", "INSUFFICIENT_RESOURCES", "Too much memory"), "Too much"),
        ],
    )
    def test_the_users_own_are_told(self, world: World, error: dict[str, object], said: str) -> None:
        world.fake.failing = [("SELECT", error)]
        with pytest.raises(EngineError, match=said):
            world.fetch("SELECT id FROM prices")
        assert not world.fake.cancelled.is_set()

    @pytest.mark.parametrize("kind", ["INTERNAL_ERROR", "EXTERNAL"])
    def test_the_clusters_own_are_told_by_id_alone(self, world: World, kind: str) -> None:
        world.fake.failing = [("SELECT", failure("HIVE_CANNOT_OPEN_SPLIT", kind, "hdfs://secret-host/x"))]
        with pytest.raises(
            EngineError, match="HIVE_CANNOT_OPEN_SPLIT in query 20260101_000000_00000_abcde"
        ) as caught:
            world.fetch("SELECT id FROM prices")
        assert "secret-host" not in str(caught.value)

    def test_busy_is_tried_again(self, world: World) -> None:
        world.fake.busy = 2
        assert world.fetch("SELECT 1") == ((1,),)

    def test_busy_for_good(self, world: World) -> None:
        world.fake.busy = 100
        with pytest.raises(EngineError, match="can't be reached"):
            world.fetch("SELECT 1")

    def test_nonsense(self, world: World) -> None:
        world.fake.nonsense = True
        with pytest.raises(EngineError, match="answers nonsense"):
            world.fetch("SELECT 1")

    def test_nobody_there(self, world: World) -> None:
        engine = world.with_cluster(replace(world.cluster, port=1))
        with pytest.raises(EngineError, match="can't be reached"):
            engine.start(ANA, "SELECT 1").fetch(LIMITS)

    def test_a_token_is_shown_and_may_be_renewed(self, world: World, tmp_path: Path) -> None:
        world.fake.token = "first"
        token = tmp_path / "token"
        engine = world.with_cluster(replace(world.cluster, token=token))
        with pytest.raises(EngineError, match="can't read its token"):
            engine.start(ANA, "SELECT 1").fetch(LIMITS)
        token.write_text("first\n")
        assert engine.start(ANA, "SELECT 1").fetch(LIMITS).rows == ((1,),)
        world.fake.token = "second"
        with pytest.raises(EngineError, match="refuses this server's credentials") as caught:
            engine.start(ANA, "SELECT 1").fetch(LIMITS)
        assert "internal-host" not in str(caught.value)
        token.write_text("second\n")
        assert engine.start(ANA, "SELECT 1").fetch(LIMITS).rows == ((1,),)

    def test_nothing_goes_elsewhere(self, world: World) -> None:
        with coordinating(world.kind) as (other, _):
            for knob in ("elsewhere", "redirect"):
                setattr(world.fake, knob, other.origin)
                with pytest.raises(EngineError, match="where it doesn't go"):
                    world.fetch("SELECT 1")
                setattr(world.fake, knob, None)
            assert other.seen == []


class TestEnding:
    def test_an_interrupted_query_is_cancelled_at_the_coordinator(self, world: World) -> None:
        world.fake.endless = "prices"
        execution = world.engine.start(ANA, "SELECT id FROM prices")
        said: list[str] = []

        def fetch() -> None:
            try:
                execution.fetch(LIMITS)
            except EngineError as error:
                said.append(str(error))

        thread = threading.Thread(target=fetch)
        thread.start()
        deadline = time.monotonic() + 10
        while "RUNNING, 50 %" not in execution.progress():
            assert time.monotonic() < deadline
        execution.interrupt()
        thread.join(10)
        assert said == ["The query was stopped."]
        assert world.fake.cancelled.is_set()
        deletes = [seen for seen in world.fake.seen if seen.method == "DELETE"]
        assert [seen.path.split("/")[3] for seen in deletes] == ["executing"]

    def test_our_own_deadline_holds(self, world: World) -> None:
        world.fake.endless = "prices"
        started = time.monotonic()
        with pytest.raises(EngineError, match="time was up"):
            world.fetch("SELECT id FROM prices", Limits(10, 1000, 0.5))
        assert time.monotonic() - started < 5
        assert world.fake.cancelled.is_set()

    def test_cancelled_by_its_caller(self, world: World) -> None:
        world.fake.endless = "prices"
        queries = Queries(world.engine)
        query = queries.submit(ANA, "SELECT id FROM prices", LIMITS)
        queries.cancel(query)
        query.done.result(10)
        assert query.state is State.CANCELLED
        queries.close()

    def test_cancelled_by_somebody_at_the_cluster(self, world: World) -> None:
        world.fake.failing = [("prices", failure("ADMINISTRATIVELY_KILLED", message="Killed by ops"))]
        with pytest.raises(EngineError, match="Killed by ops"):
            world.fetch("SELECT id FROM prices")


class TestCatalogue:
    def test_names(self, world: World) -> None:
        engine = world.engine
        assert engine.catalogs(ANA) == ["hive"]  # those that policy means, not all there are
        assert engine.schemas(ANA, "hive") == ["web"]
        assert [str(table.name) for table in engine.tables(ANA, "hive", "web")] == ["hive.web.prices"]
        table = engine.table(ANA, PRICES)
        assert [(c.name, c.type, c.description) for c in table.columns] == [
            ("id", "integer", "about id"),
            ("price", "decimal(10,2)", "about price"),
        ]
        assert table.rows == 10

    def test_no_statistics_are_no_failure(self, world: World) -> None:
        world.fake.failing = [("SHOW STATS", failure("NOT_SUPPORTED"))]
        assert world.engine.table(ANA, PRICES).rows is None

    def test_names_are_quoted(self, world: World) -> None:
        with pytest.raises(EngineError):
            world.engine.tables(ANA, "hive", 'web"; drop table prices; --')
        assert world.fake.sent()[-1] == 'SHOW TABLES FROM "hive"."web""; drop table prices; --"'

    def test_foresight(self, world: World) -> None:
        world.engine.check(ANA, "SELECT id FROM prices")
        with pytest.raises(EngineError):
            world.engine.check(ANA, "SELECT nope FROM prices")
        assert world.engine.estimate(ANA, "SELECT id FROM prices") == Estimate(12, 15, None)
        assert world.fake.sent()[-1] == "EXPLAIN (TYPE IO, FORMAT JSON) SELECT id FROM prices"

    def test_a_plan_without_estimates(self) -> None:
        assert read_plan('{"inputTableColumnInfos": [{"table": {}}]}') == Estimate(None, None, None)
        with pytest.raises(EngineError, match="no estimate"):
            read_plan("Fragment 0 [SINGLE]")


class TestOverwrite:
    ORDER = Overwrite(PRICES, "SELECT id, price * 2 AS price FROM prices WHERE id < 5", 1, 8, 30)

    def whole(self, world: World) -> None:
        assert world.fake.rows("select count(*), sum(price) from prices") == [(10, 45)]
        assert world.fake.rows("select table_name from duckdb_tables()") == [("prices",)]

    def test_the_rows_are_replaced(self, world: World) -> None:
        done = world.engine.overwrite(ANA, self.ORDER)
        assert (done.rows_before, done.rows_after, done.note) == (10, 5, "")
        assert world.fake.rows("select count(*), sum(price) from prices") == [(5, 20)]
        assert world.fake.rows("select table_name from duckdb_tables()") == [("prices",)]
        assert {seen.headers[f"{world.fake.prefix}user"] for seen in world.fake.seen} == {"ana"}

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("SELECT id, price FROM prices", "gives 10 rows, and 1 to 8 were expected"),
            ("SELECT id FROM prices", "gives the columns id; the table has id, price"),
            ("SELECT id, 'much' AS price FROM prices WHERE id < 5", "as it was"),
        ],
    )
    def test_what_is_wrong_changes_nothing(self, world: World, sql: str, said: str) -> None:
        with pytest.raises(EngineError, match=said):
            world.engine.overwrite(ANA, replace(self.ORDER, sql=sql))
        self.whole(world)

    @pytest.mark.parametrize(
        "step", ["^CREATE", "^INSERT", "count.*__new_", "RENAME TO .*__old_", "__new_.* RENAME"]
    )
    def test_a_failure_at_any_step_changes_nothing(self, world: World, step: str) -> None:
        world.fake.failing = [(step, failure("GENERIC_INTERNAL_ERROR", "INTERNAL_ERROR", "boom"))]
        with pytest.raises(EngineError, match="as it was"):
            world.engine.overwrite(ANA, self.ORDER)
        assert world.fake.failing == []
        self.whole(world)

    def test_what_can_not_be_taken_back_is_said_and_kept(self, world: World) -> None:
        boom = failure("GENERIC_INTERNAL_ERROR", "INTERNAL_ERROR", "boom")
        world.fake.failing = [("__new_.* RENAME", boom), ("IF EXISTS .*__old_.* RENAME", boom)]
        with pytest.raises(EngineError, match=r"could not be taken back .* or as hive\.web\.prices__old_"):
            world.engine.overwrite(ANA, self.ORDER)
        tables = [name for (name,) in world.fake.rows("select table_name from duckdb_tables() order by 1")]
        assert len(tables) == 2  # both are there: what was, and what should have become
        assert world.fake.rows(f'select count(*), sum(price) from "{tables[1]}"') == [(10, 45)]

    def test_old_rows_that_stay_are_told(self, world: World) -> None:
        world.fake.failing = [("DROP.*__old_", failure("PERMISSION_DENIED"))]
        assert "prices__old_" in world.engine.overwrite(ANA, self.ORDER).note

    def test_what_changes_something_is_sent_once(self, world: World) -> None:
        # A 503 may come from a proxy after the coordinator has begun: nobody may insert twice.
        world.fake.unavailable = "^INSERT"
        with pytest.raises(EngineError, match="as it was"):
            world.engine.overwrite(ANA, self.ORDER)
        assert len([sql for sql in world.fake.sent() if sql.startswith("INSERT")]) == 1
        self.whole(world)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"host": "trino.corp.example"}, "TLS"),
        ({"users_of": ""}, "--users-of"),
        ({"catalogs": frozenset({"other"})}, "default"),
        ({"catalogs": frozenset({"hive", "system"})}, "system"),
    ],
)
def test_unsafe_settings_are_refused(change: dict[str, object], said: str) -> None:
    good = Cluster("127.0.0.1", 8080, "hive", "web", frozenset({"hive"}), scheme="http", users_of="sso")
    with pytest.raises(ClusterError, match=said):
        replace(good, **change)  # type: ignore[arg-type]
