"""Root causes, kept and found again: in SQLite, and in a real PostgreSQL where this machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from servers.spark.postgres import PostgresRecords
from servers.spark.records import NewRecord, Records, RecordsError, SqliteRecords

NOW = 1795390000.0
OOM = NewRecord(
    "out-of-memory-000000000001",
    "Executors run out of memory in the nightly join",
    "One customer_id holds most orders, so one task sorts them all.",
    "Salted customer_id; broadcasting the small side also helped.",
    "app-1/2",
    "sso:eva",
)
UDF = NewRecord(
    "python-exception-000000000002",
    "Revenue UDF fails on N/A",
    "The upstream CSV writes N/A for missing revenue.",
    "Parse with try_cast before the UDF.",
    "",
    "sso:sam",
)


def _run(*command: str) -> None:
    # Not to a pipe: the server that is started would hold it open.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own, on a socket in a temporary folder."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb") or next((str(b / "initdb") for b in reversed(binaries)), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server here: initdb is not on PATH")
    pg_ctl = str(Path(initdb).resolve().with_name("pg_ctl"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pg-") as root:  # a socket's path is at most 107 bytes
        if as_user:
            shutil.chown(root, "postgres")
        data = f"{root}/data"
        _run(*as_user, initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={root} -c fsync=off"
        command = [*as_user, pg_ctl, "-D", data, "-w", "-l", f"{root}/log", "-o", options]
        _run(*command, "start")
        try:
            yield f"postgresql:///postgres?host={root}&user=postgres"
        finally:
            _run(*as_user, pg_ctl, "-D", data, "-w", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgres"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    store: Records
    if request.param == "sqlite":
        store = SqliteRecords(tmp_path / "new" / "causes.sqlite")
    else:
        store = PostgresRecords(request.getfixturevalue("postgres"))
        with psycopg.connect(request.getfixturevalue("postgres"), autocommit=True) as connection:
            connection.execute("truncate spark_root_causes restart identity")
    yield store
    store.close()


def test_a_record_is_found_by_its_fingerprint_newest_first(records: Records) -> None:
    first = records.add(OOM, NOW)
    second = records.add(OOM, NOW + 60)
    records.add(UDF, NOW)
    assert records.by_fingerprint(OOM.fingerprint, 10) == [second, first]
    assert records.by_fingerprint(OOM.fingerprint, 1) == [second]
    assert records.by_fingerprint("out-of-memory-00000000000f", 10) == []
    assert (first.title, first.author, first.application) == (OOM.title, OOM.author, OOM.application)
    assert first.recorded == "2026-11-22T23:26:40+00:00"


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("memory", OOM.title),
        ("salting skewed customers", OOM.title),  # salted, by its stem
        ("why does customer_id blow up?", OOM.title),
        ("python N/A revenue parsing", UDF.title),
        ("try_cast", UDF.title),
        ("000000000002", UDF.title),
    ],
)
def test_a_record_is_found_by_any_of_its_words(records: Records, query: str, title: str) -> None:
    records.add(OOM, NOW)
    records.add(UDF, NOW)
    assert records.by_words(query, 5)[0].title == title


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "'",
        '"',
        "a' | 'b",
        "NEAR(a b)",
        "title:x",
        "* - + ( )",
        "AND OR NOT",
        "a:* & !b",
        "\\",
        "\x00 a",
        "%s {0} $1",
        "'; drop table root_causes; --",
        "日本語 emoji 🎉",
        "<-> |",
        "x" * 300,
        "the and of",
    ],
)
def test_what_looks_like_syntax_is_only_words(records: Records, query: str) -> None:
    records.add(OOM, NOW)
    records.by_words(query, 5)
    records.by_fingerprint(query.replace("\x00", ""), 5)
    assert len(records.by_words("memory", 5)) == 1


def test_a_title_weighs_more_than_a_text(records: Records) -> None:
    records.add(
        NewRecord("a-000000000001", "About disks here", "a shuffle was slow then", "none", "", ""), NOW
    )
    records.add(
        NewRecord("a-000000000002", "A shuffle was slow", "about disks here then", "none", "", ""), NOW
    )
    assert [r.fingerprint[-1] for r in records.by_words("shuffle", 5)] == ["2", "1"]
    assert [r.fingerprint[-1] for r in records.by_words("disks", 5)] == ["1", "2"]


def test_many_threads_write_at_once(records: Records) -> None:
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda n: records.add(OOM, NOW + n), range(40)))
    assert len({record.id for record in added}) == 40
    assert len(records.by_words("memory", 50)) == 40


def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    one, other = SqliteRecords(tmp_path / "c.sqlite"), SqliteRecords(tmp_path / "c.sqlite")
    one.add(OOM, NOW)
    assert [r.title for r in other.by_words("memory", 5)] == [OOM.title]
    one.close()
    other.close()


def test_a_file_that_is_no_database_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(RecordsError, match="can't open"):
        SqliteRecords(tmp_path / "c.sqlite")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "c.sqlite")
    store.close()
    with pytest.raises(RecordsError):
        store.add(OOM, NOW)
    with pytest.raises(RecordsError):
        store.by_words("memory", 5)


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(RecordsError) as refused:
        PostgresRecords("postgresql://ada:pa55word@127.0.0.1:1/x")
    assert "pa55word" not in str(refused.value)


def test_a_connection_that_was_lost_is_made_anew(postgres: str) -> None:
    store = PostgresRecords(postgres)
    store.add(OOM, NOW)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and usename = 'postgres'"
        )
    assert store.by_words("memory", 1)[0].title == OOM.title
    store.close()
