"""The embedded engine alone: what it does without the SQL guard in front of it, and its limits."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.engine import Asker, EngineError, Limits, Rows
from servers.presto.sample import CAMPAIGNS, DAYS, ensure_sample
from servers.presto.sqlguard import guard

ANA = Asker("user:sso:ana", "sso", "ana")
PLENTY = Limits(1000, 1_000_000, 20)


def fetch(engine: DuckDBEngine, sql: str, limits: Limits = PLENTY) -> Rows:
    return engine.start(ANA, sql).fetch(limits)


def test_the_sample_is_the_same_everywhere(database: Path, engine: DuckDBEngine, tmp_path: Path) -> None:
    again = tmp_path / "again.duckdb"
    assert ensure_sample(again)
    assert not ensure_sample(again)
    assert [p.name for p in tmp_path.iterdir()] == ["again.duckdb"]
    other = DuckDBEngine(again)
    for table in engine.tables(ANA, "presto", "main"):
        rows = f"select md5(string_agg(t::varchar, ',' order by t)) from {table.name.name} t"
        assert fetch(engine, rows).rows == fetch(other, rows).rows
    other.close()
    assert {t.name.name: t.rows for t in engine.tables(ANA, "presto", "main")} == {
        "ads": 240,
        "campaigns": CAMPAIGNS,
        "daily_metrics": 240 * DAYS,
        "revenue": CAMPAIGNS * DAYS,
    }


def test_no_file_no_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="can't open the warehouse"):
        DuckDBEngine(tmp_path / "none.duckdb")
    (tmp_path / "text").write_text("not a database")
    with pytest.raises(EngineError):
        DuckDBEngine(tmp_path / "text")


@pytest.mark.parametrize(
    "sql",
    [
        "insert into ads select * from ads",
        "create temp table x as select 1",
        "copy ads to '/tmp/gatehouse-test.csv'",
        "attach '/tmp/gatehouse-test.duckdb'",
        "load httpfs",
        "set memory_limit = '1GB'",
        "explain analyze delete from ads",
        "pragma database_list",
        "select 1; select 2",
    ],
)
def test_the_second_wall_takes_one_select_only(engine: DuckDBEngine, sql: str) -> None:
    with pytest.raises(EngineError):
        fetch(engine, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/hostname')",
        "select * from glob('/etc/*')",
        "select * from read_parquet('https://example.com/x')",
        "select * from secret_rows",
    ],
)
def test_files_and_pythons_variables_are_no_tables(engine: DuckDBEngine, sql: str) -> None:
    secret_rows = duckdb.connect().sql("select 1 as a")
    assert secret_rows is not None
    with pytest.raises(EngineError):
        fetch(engine, sql)


def test_the_settings_are_locked(engine: DuckDBEngine) -> None:
    # The guard lets nobody ask this; the test asks around it.
    wanted = {
        "access_mode": "read_only",
        "enable_external_access": "false",
        "lock_configuration": "true",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    names = ", ".join(f"'{name}'" for name in wanted)
    rows = fetch(engine, f"select name, value from duckdb_settings() where name in ({names})").rows
    assert dict(rows) == wanted  # type: ignore[arg-type]


class TestLimits:
    def test_rows_are_cut_at_the_fetch(self, engine: DuckDBEngine) -> None:
        found = fetch(engine, "select * from daily_metrics", Limits(10, 1_000_000, 20))
        assert (len(found.rows), found.cut_by) == (10, "rows")
        whole = fetch(engine, "select * from campaigns", Limits(CAMPAIGNS, 1_000_000, 20))
        assert (len(whole.rows), whole.cut_by) == (CAMPAIGNS, None)

    def test_bytes_are_cut_at_the_fetch(self, engine: DuckDBEngine) -> None:
        found = fetch(engine, "select * from campaigns", Limits(1000, 500, 20))
        assert found.cut_by == "bytes"
        assert 0 < len(found.rows) < CAMPAIGNS
        one_huge = fetch(engine, "select repeat('x', 10000)", Limits(1000, 500, 20))
        assert (one_huge.rows, one_huge.cut_by) == ((), "bytes")

    def test_memory_is_limited(self, tmp_path: Path) -> None:
        ensure_sample(tmp_path / "small.duckdb")
        small = DuckDBEngine(tmp_path / "small.duckdb", memory_limit="32MB")
        sql = "select count(*) from (select distinct a.ad_id, a.day, b.ad_id from daily_metrics a, ads b)"
        with pytest.raises(EngineError, match="too much memory"):
            fetch(small, sql)
        small.close()
        assert [file.name for file in tmp_path.iterdir()] == ["small.duckdb"]  # nothing spilled to disk


def test_values_become_json(engine: DuckDBEngine) -> None:
    sql = """select null, true, 1, 9007199254740993, 1.5::double, 'nan'::double, 12.34::decimal(10,2),
             123456789012345678.90::decimal(38,2), date '2026-01-02', timestamp '2026-01-02 03:04:05', 'ü'"""
    (row,) = fetch(engine, sql).rows
    assert row == (
        None,
        True,
        1,
        "9007199254740993",
        1.5,
        None,
        12.34,
        "123456789012345678.90",
        "2026-01-02",
        "2026-01-02 03:04:05",
        "ü",
    )


QUERIES = (Path(__file__).parent / "queries.sql").read_text().partition("\n\n")[2].split(";\n")[:-1]


@pytest.mark.parametrize("sql", QUERIES)
def test_an_analysts_query_means_what_it_meant(engine: DuckDBEngine, sql: str) -> None:
    """The SQL that runs is printed from the checked tree; it must give what the text itself would give."""
    rewritten = guard(sql, engine.namespace, 1000, "duckdb").sql
    assert fetch(engine, rewritten).rows == fetch(engine, sql).rows
