"""The record that makes a confirmation count once: one contract, two stores."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mcpguard.confirmation_postgres import PostgresRecords
from mcpguard.confirmation_records import (
    KEEP,
    MAX_OPEN,
    Record,
    Records,
    RecordsUnavailable,
    SqliteRecords,
    Step,
    TooManyOpen,
    person_of,
)
from mcpguard.confirmation_setup import _records
from mcpguard.confirmation_state import new_id
from tests.mcpguard import postgres

Open = Callable[[], Records]


def question(now: float = 0.0, person: str = "eva", **more: str) -> Record:
    record = Record(new_id(), person_of("sso", person), "vault", "overwrite", "", now + 120)
    return replace(record, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    folder = postgres.programs()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine")
    # Not below pytest's own folder: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg") as root, postgres.running(Path(root), folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "confirmations.sqlite")
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def records(where: str) -> Iterator[Records]:
    opened = _records(where)
    yield opened
    opened.close()


class TestOneQuestion:
    def test_it_is_spent_once(self, records: Records) -> None:
        record = question()
        records.add(record, 0)
        assert records.find(record.id, 0) == record
        assert records.move(record.id, Step.OPEN, Step.SPENT, 1) is Step.OPEN
        assert records.move(record.id, Step.OPEN, Step.SPENT, 1) is Step.SPENT
        assert records.find(record.id, 1) == replace(record, step=Step.SPENT)

    def test_a_page_approves_it_first(self, records: Records) -> None:
        record = question(message="Run it?")
        records.add(record, 0)
        assert records.move(record.id, Step.APPROVED, Step.SPENT, 1) is Step.OPEN
        assert records.move(record.id, Step.OPEN, Step.APPROVED, 1) is Step.OPEN
        assert records.move(record.id, Step.OPEN, Step.DECLINED, 1) is Step.APPROVED
        assert records.move(record.id, Step.APPROVED, Step.SPENT, 1) is Step.APPROVED
        assert records.move(record.id, Step.APPROVED, Step.SPENT, 1) is Step.SPENT

    @pytest.mark.parametrize("step", [Step.OPEN, Step.APPROVED])
    def test_it_expires_at_its_very_second(self, records: Records, step: Step) -> None:
        record = question()
        records.add(record, 0)
        if step is Step.APPROVED:
            records.move(record.id, Step.OPEN, step, 0)
        assert records.move(record.id, step, Step.SPENT, 120) is Step.EXPIRED
        assert records.move(record.id, step, Step.SPENT, 119.9) is step

    def test_what_was_used_stays_used_after_its_time(self, records: Records) -> None:
        record = question()
        records.add(record, 0)
        records.move(record.id, Step.OPEN, Step.SPENT, 1)
        assert records.move(record.id, Step.OPEN, Step.SPENT, 121) is Step.SPENT

    def test_one_that_never_was_is_unknown(self, records: Records) -> None:
        assert records.move("none", Step.OPEN, Step.SPENT, 0) is Step.UNKNOWN
        assert records.find("none", 0) is None

    def test_an_id_is_used_for_one(self, records: Records) -> None:
        record = question()
        records.add(record, 0)
        with pytest.raises(RecordsUnavailable):
            records.add(record, 0)

    def test_another_replica_sees_it(self, records: Records, where: str) -> None:
        record = question()
        records.add(record, 0)
        other = _records(where)
        assert other.move(record.id, Step.OPEN, Step.SPENT, 1) is Step.OPEN
        assert records.move(record.id, Step.OPEN, Step.SPENT, 1) is Step.SPENT
        other.close()


class TestMany:
    def test_a_users_open_questions_are_bounded(self, records: Records) -> None:
        for _ in range(MAX_OPEN):
            last = question(1000, "bounded")
            records.add(last, 1000)
        with pytest.raises(TooManyOpen):
            records.add(question(1000, "bounded"), 1000)
        records.add(question(1000, "other"), 1000)
        records.add(question(1000, "bounded", server="elsewhere"), 1000)
        records.move(last.id, Step.OPEN, Step.SPENT, 1001)
        records.add(question(1000, "bounded"), 1001)

    def test_what_is_long_over_is_forgotten(self, records: Records) -> None:
        old = question()
        records.add(old, 0)
        records.add(question(120 + KEEP), 120 + KEEP)
        assert records.find(old.id, 0) is not None
        records.add(question(121 + KEEP), 121 + KEEP)
        assert records.find(old.id, 0) is None

    def test_of_many_threads_one_finds_it_open(self, where: str) -> None:
        opened = [_records(where) for _ in range(4)]
        record = question()
        opened[0].add(record, 0)
        start = threading.Barrier(12)

        def spend(number: int) -> Step:
            start.wait(20)
            return opened[number % 4].move(record.id, Step.OPEN, Step.SPENT, 1)

        with ThreadPoolExecutor(12) as pool:
            stood = sorted(pool.map(spend, range(12)))
        assert stood == [Step.OPEN] + [Step.SPENT] * 11
        for one in opened:
            one.close()

    def test_of_several_processes_one_finds_it_open(self, where: str) -> None:
        opened = _records(where)
        ids = []
        for _ in range(10):
            record = question()
            opened.add(record, 0)
            ids.append(record.id)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(3, mp_context=context) as pool:
            won = list(pool.map(spend_all, [where] * 3, [ids] * 3))
        assert sorted(won_id for ids_of_one in won for won_id in ids_of_one) == sorted(ids)
        opened.close()

    def test_two_replicas_may_start_at_once(self, where: str) -> None:
        with ThreadPoolExecutor(6) as pool:
            for started in list(pool.map(_records, [where] * 6)):
                started.close()


def spend_all(where: str, ids: list[str]) -> list[str]:
    """Return those that this process spent; runs in a process of its own."""
    records = _records(where)
    return [one for one in ids if records.move(one, Step.OPEN, Step.SPENT, 1) is Step.OPEN]


class TestSqlite:
    def test_without_a_file_it_is_this_process_alone(self) -> None:
        one, other, record = SqliteRecords(None), SqliteRecords(None), question()
        one.add(record, 0)
        assert other.find(record.id, 0) is None
        assert one.move(record.id, Step.OPEN, Step.SPENT, 0) is Step.OPEN
        one.close()
        other.close()

    def test_nobody_else_reads_the_file(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            SqliteRecords(tmp_path / "records").close()
        finally:
            os.umask(before)
        assert (tmp_path / "records").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("path", [".", "no/such/folder/records"])
    def test_one_that_cannot_be_opened_says_so(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(RecordsUnavailable):
            SqliteRecords(tmp_path / path)

    def test_a_held_lock_is_waited_for_and_not_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sqlite3

        monkeypatch.setattr("mcpguard.confirmation_records._BUSY", 0.1)
        records, record = SqliteRecords(tmp_path / "records"), question()
        records.add(record, 0)
        holder = sqlite3.connect(tmp_path / "records", isolation_level=None)
        holder.execute("begin exclusive")
        with pytest.raises(RecordsUnavailable, match="locked"):
            records.move(record.id, Step.OPEN, Step.SPENT, 1)
        holder.execute("rollback")
        holder.close()
        assert records.move(record.id, Step.OPEN, Step.SPENT, 1) is Step.OPEN
        records.close()


def test_a_postgres_that_is_not_there_says_so_without_its_password() -> None:
    with pytest.raises(RecordsUnavailable) as caught:
        PostgresRecords("postgresql://tests:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)
