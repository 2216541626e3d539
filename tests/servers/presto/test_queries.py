"""Queries in the background: their ends, their owners, their room, and what is kept of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest

from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.engine import Asker, EngineError, Limits
from servers.presto.queries import Queries, Query, Room, State, UnknownQuery
from servers.presto.results import page

ANA, BEN = Asker("user:sso:ana", "sso", "ana"), Asker("user:sso:ben", "sso", "ben")
LIMITS = Limits(1000, 1_000_000, 60)
CROSS = """select count(*) from daily_metrics a, daily_metrics b, daily_metrics c
           where a.clicks + b.clicks > c.clicks"""


@contextmanager
def opened(
    engine: DuckDBEngine, clock: Callable[[], float] = time.monotonic, **room: float
) -> Iterator[Queries]:
    queries = Queries(engine, Room(**room), clock)  # type: ignore[arg-type]
    try:
        yield queries
    finally:
        queries.close()


def ended(query: Query) -> Query:
    query.done.result(20)
    return query


def test_a_query_ends_and_its_rows_stay(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        query = ended(queries.submit(ANA, "select campaign_id from campaigns order by 1", LIMITS))
        assert query.state is State.FINISHED
        first, second = page(query, "duckdb", 0, 40), page(query, "duckdb", 40, 40)
        assert (first["row_count"], first["truncated"]) == (40, True)
        assert first["more"] == "Rows 40 to 59: fetch_more(query_id, start=40)."
        assert (second["row_count"], second["truncated"], second["more"]) == (20, False, "")
        assert page(query, "duckdb", 40, 40) == second  # a call can be repeated
        assert queries.find(ANA.key, query.id) is query


def test_a_query_is_its_callers_own(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        query = ended(queries.submit(ANA, "select 1", LIMITS))
        with pytest.raises(UnknownQuery) as theirs:
            queries.find(BEN.key, query.id)
        with pytest.raises(UnknownQuery) as nobodys:
            queries.find(BEN.key, "0" * 32)
        assert str(theirs.value).replace(query.id, "") == str(nobodys.value).replace("0" * 32, "")


def test_failures_are_told(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        query = ended(queries.submit(ANA, "select 'x'::int", LIMITS))
        assert (query.state, query.rows) == (State.FAILED, None)
        assert "mend the query" in query.problem
        with pytest.raises(EngineError, match="exactly one SELECT"):
            queries.submit(ANA, "drop table ads", LIMITS)


def test_time_is_limited(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        started = time.monotonic()
        query = ended(queries.submit(ANA, CROSS, Limits(10, 1000, 0.3)))
        assert time.monotonic() - started < 5
        assert query.state is State.FAILED
        assert "longer than 0.3 seconds and was stopped" in query.problem


def test_a_cancelled_query_stops(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        query = queries.submit(ANA, CROSS, LIMITS)
        queries.cancel(query)
        assert ended(query).state is State.CANCELLED
        queries.cancel(query)  # harmless
        assert query.problem == "The query was cancelled."


def test_waiting_counts_and_a_queued_query_never_starts(engine: DuckDBEngine) -> None:
    with opened(engine, at_once=1) as queries:
        first = queries.submit(ANA, CROSS, Limits(10, 1000, 30))
        second = queries.submit(BEN, CROSS, Limits(10, 1000, 0.2))
        assert ended(second).state is State.FAILED
        assert not first.over
        queries.cancel(first)
        ended(first)


def test_there_is_room_for_so_many(engine: DuckDBEngine) -> None:
    with opened(engine, per_caller=2, waiting=3, at_once=1) as queries:
        running = [queries.submit(ANA, CROSS, LIMITS) for _ in range(2)]
        with pytest.raises(EngineError, match="You have 2 queries running"):
            queries.submit(ANA, "select 1", LIMITS)
        running.append(queries.submit(BEN, CROSS, LIMITS))
        with pytest.raises(EngineError, match="Too many queries"):
            queries.submit(Asker("user:sso:eve"), "select 1", LIMITS)
        for query in running:
            queries.cancel(query)
            ended(query)


def test_old_results_are_forgotten(engine: DuckDBEngine) -> None:
    now = [0.0]
    with opened(engine, lambda: now[0], kept_seconds=900) as queries:
        query = ended(queries.submit(ANA, "select 1", LIMITS))
        now[0] = 901.0
        ended(queries.submit(BEN, "select 1", LIMITS))
        gone = threading.Event()

        def look() -> None:
            while not gone.is_set():
                try:
                    queries.find(ANA.key, query.id)
                except UnknownQuery:
                    gone.set()

        threading.Thread(target=look, daemon=True).start()
        assert gone.wait(10)


def test_only_the_last_results_are_kept(engine: DuckDBEngine) -> None:
    with opened(engine, kept_per_caller=2, kept=3) as queries:
        mine = [ended(queries.submit(ANA, f"select {n}", LIMITS)) for n in range(3)]
        with pytest.raises(UnknownQuery):
            queries.find(ANA.key, mine[0].id)
        ended(queries.submit(BEN, "select 1", LIMITS))
        ended(queries.submit(BEN, "select 1", LIMITS))
        with pytest.raises(UnknownQuery):
            queries.find(ANA.key, mine[1].id)
        assert queries.find(ANA.key, mine[2].id)


def test_who_waits_may_leave(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:

        async def leave() -> Query:
            query = queries.submit(ANA, CROSS, LIMITS)
            await queries.wait(query, 0.05)
            assert not query.over
            with anyio.move_on_after(0.05):
                await queries.wait(query, 60)
            return query

        query = anyio.run(leave)
        assert not query.over
        queries.cancel(query)
        assert ended(query).state is State.CANCELLED


def test_closing_stops_what_runs(engine: DuckDBEngine) -> None:
    with opened(engine) as queries:
        query = queries.submit(ANA, CROSS, LIMITS)
    assert query.state is State.CANCELLED
    with pytest.raises(EngineError, match="stopping"):
        queries.submit(ANA, "select 1", LIMITS)
