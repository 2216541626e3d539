"""Overwriting a table of the embedded engine: all of it or nothing, whatever happens in between."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from servers.presto import duckdb_overwrite
from servers.presto.duckdb_engine import DuckDBEngine
from servers.presto.duckdb_writer import Job
from servers.presto.engine import Asker, EngineError, Limits, Overwrite
from servers.presto.names import TableName

ANA = Asker("user:sso:ana", "sso", "ana")
TARGET = TableName("shop", "main", "prices")
ORDER = Overwrite(TARGET, "SELECT id, price * 2 AS price FROM prices WHERE id < 50", 1, 100, 60)
ALL = "select count(*), sum(price), min(id), max(id) from prices"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """
            create table prices (id integer primary key, price integer not null check (price >= 0));
            comment on table prices is 'What things cost.';
            create index by_price on prices (price);
            insert into prices select i, i from range(100) t(i);
            create table other as select 1 as a;
            """
        )
    return path


@pytest.fixture
def shop(path: Path) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(path)
    yield engine
    engine.close()


def rows(engine: DuckDBEngine, sql: str = ALL) -> tuple[object, ...]:
    return engine.start(ANA, sql).fetch(Limits(10, 10_000, 10)).rows[0]


BEFORE = (100, 4950, 0, 99)


def whole(engine: DuckDBEngine, path: Path) -> None:
    """The table is as it was, and nothing is left lying about."""
    assert rows(engine) == BEFORE
    assert [file.name for file in path.parent.iterdir() if "staging" in file.name] == []


def test_the_rows_are_replaced_and_the_rest_stays(shop: DuckDBEngine, path: Path) -> None:
    done = shop.overwrite(ANA, ORDER)
    assert (done.rows_before, done.rows_after, done.note) == (100, 50, "")
    assert rows(shop, "select count(*), max(price) from prices") == (50, 98)
    table = shop.table(ANA, TARGET)
    assert (table.rows, table.description) == (50, "What things cost.")
    assert [file.name for file in path.parent.iterdir()] == ["shop.duckdb"]
    shop.close()
    with duckdb.connect(str(path)) as connection:
        constraints = connection.execute("select constraint_type from duckdb_constraints()").fetchall()
        assert {"PRIMARY KEY", "NOT NULL", "CHECK"} <= {row[0] for row in constraints}
        assert connection.execute("select index_name from duckdb_indexes()").fetchall() == [("by_price",)]
        with pytest.raises(duckdb.ConstraintException):
            connection.execute("insert into prices values (1, 1)")


def test_it_can_be_done_again_and_columns_go_by_name(shop: DuckDBEngine) -> None:
    shop.overwrite(ANA, ORDER)
    again = replace(ORDER, sql="SELECT 7 AS price, id FROM prices")
    assert shop.overwrite(ANA, again).rows_after == 50
    assert rows(shop, "select min(price), max(price), max(id) from prices") == (7, 7, 49)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id, price FROM prices WHERE id < 0", "gives 0 rows, and 1 to 100 were expected"),
        ("SELECT a.id, a.price FROM prices a, prices b", "gives 10000 rows"),
        ("SELECT 1 AS id, price FROM prices", "onstraint"),
        ("SELECT id, -1 AS price FROM prices", "onstraint"),
        ("SELECT id, NULL AS price FROM prices", "onstraint"),
        ("SELECT id, 'much' AS price FROM prices", "onver"),
        ("SELECT id FROM prices", "gives the columns id; the table has id, price"),
        ("SELECT id, price, 1 AS more FROM prices", "gives the columns"),
        ("SELECT id, 1 // (50 - id) AS price FROM prices", "Division by zero"),
        ("SELECT id, CAST(id AS VARCHAR)::DATE AS price FROM prices", "onver"),
        ("SELECT id, nope AS price FROM prices", "nope"),
        ("DELETE FROM prices", "exactly one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "was"),
    ],
)
def test_what_is_wrong_changes_nothing(shop: DuckDBEngine, path: Path, sql: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        shop.overwrite(ANA, replace(ORDER, sql=sql))
    whole(shop, path)


def test_time_is_limited(shop: DuckDBEngine, path: Path) -> None:
    crossed = "prices a, prices b, prices c, prices d, prices e"
    slow = f"SELECT a.id, a.price FROM {crossed} WHERE sin(a.id + b.id + c.id + d.id + e.id) > 2"
    with pytest.raises(EngineError, match="took too long"):
        shop.overwrite(ANA, replace(ORDER, sql=slow, seconds=1.5))
    whole(shop, path)


def test_readers_go_on_meanwhile_and_the_late_ones_are_told(
    shop: DuckDBEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = shop.start(ANA, "select count(*) from prices a, prices b, prices c, prices d, prices e")
    outcome: list[str] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        try:
            slow.fetch(Limits(1, 1000, 60))
        except EngineError as error:
            outcome.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(5)
    duckdb_overwrite.overwrite(shop._file, ORDER, ["id", "price"], patience=0.2)
    reader.join(20)
    assert outcome in ([], ["A table was being overwritten. Run it again."])  # [] where it was faster
    assert rows(shop, "select count(*) from prices") == (50,)


def test_only_one_at_a_time(shop: DuckDBEngine) -> None:
    with duckdb_overwrite._one_at_a_time, pytest.raises(EngineError, match="Another table"):
        shop.overwrite(ANA, ORDER)
    assert shop.overwrite(ANA, ORDER).rows_after == 50


def test_another_process_that_has_the_file_keeps_it(shop: DuckDBEngine, path: Path) -> None:
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(path)!r}, read_only=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(EngineError, match="lock"):
            shop.overwrite(ANA, ORDER)
        whole(shop, path)
        other.communicate()
    assert shop.overwrite(ANA, ORDER).rows_after == 50


class TestKilled:
    """The writer dies by SIGKILL, at each of its steps."""

    def job(self, path: Path) -> Job:
        staging = path.with_name(f".{path.name}.staging-test")
        return Job(str(path), str(staging), "shop", "main", "prices", ("id", "price"), ORDER.sql, "256MB")

    def writer(self, patch: str) -> list[str]:
        """The real writer, which kills itself where `patch` says."""
        code = (
            "import os, signal, sys, duckdb\n"
            "from servers.presto import duckdb_writer as writer\n"
            "def die(): os.kill(os.getpid(), signal.SIGKILL)\n"
            f"{patch}\n"
            "sys.exit(writer.main())\n"
        )
        return [sys.executable, "-c", code]

    AT_STATEMENT = (
        "real = duckdb.connect\n"
        "class Dying:\n"
        "    def __init__(self, real): self.real = real\n"
        "    def __enter__(self): self.real.__enter__(); return self\n"
        "    def __exit__(self, *a): return self.real.__exit__(*a)\n"
        "    def execute(self, sql):\n"
        "        {before}\n"
        "        found = self.real.execute(sql)\n"
        "        {after}\n"
        "        return found\n"
        "writer.duckdb.connect = lambda *a, **k: Dying(real(*a, **k))\n"
    )

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("sql.startswith('create table') and die()", "pass"),
            ("pass", "sql.startswith('create table') and die()"),
            ("pass", "sql.startswith('begin') and die()"),
            ("pass", "sql.startswith('delete') and die()"),
            ("pass", "sql.startswith('insert') and die()"),
            ("sql == 'commit' and die()", "pass"),
        ],
    )
    def test_before_the_commit_the_old_rows_stay(
        self, shop: DuckDBEngine, path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
    ) -> None:
        patched = self.AT_STATEMENT.format(before=before, after=after)
        self.spawn(monkeypatch, patched)
        with pytest.raises(EngineError, match=r"took too long or was ended|The table is whole"):
            shop.overwrite(ANA, ORDER)
        whole(shop, path)
        monkeypatch.undo()
        assert shop.overwrite(ANA, ORDER).rows_after == 50

    def test_after_the_commit_the_new_rows_are_there(
        self, shop: DuckDBEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.spawn(monkeypatch, self.AT_STATEMENT.format(before="pass", after="sql == 'commit' and die()"))
        with pytest.raises(EngineError, match="The table is whole"):
            shop.overwrite(ANA, ORDER)
        assert rows(shop, "select count(*) from prices") == (50,)

    def test_without_its_server_it_changes_nothing(self, path: Path) -> None:
        job = self.job(path)
        with subprocess.Popen(
            [sys.executable, "-m", "servers.presto.duckdb_writer"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            out, _ = child.communicate(f"{job.dumps()}\n", timeout=30)  # then the end of its input
        assert (out, child.returncode) == ('{"staged": 50}\n', 2)
        assert not Path(job.staging).exists()
        engine = DuckDBEngine(path)
        whole(engine, path)
        engine.close()

    def test_what_a_dead_server_left_is_swept_up(self, shop: DuckDBEngine, path: Path) -> None:
        left = path.with_name(f".{path.name}.staging-0123")
        left.write_bytes(b"x")
        shop.overwrite(ANA, ORDER)
        assert not left.exists()

    def spawn(self, monkeypatch: pytest.MonkeyPatch, patch: str) -> None:
        real, command = subprocess.Popen, self.writer(patch)
        monkeypatch.setattr(
            duckdb_overwrite.subprocess, "Popen", lambda _, **options: real(command, **options)
        )
