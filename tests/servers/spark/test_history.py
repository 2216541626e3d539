"""The History Server's engine, over real HTTP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from servers.spark.connection import connect
from servers.spark.engine import EngineError, NoApplication
from servers.spark.folder import FolderEngine
from servers.spark.history import HistoryEngine
from servers.spark.historyjson import time
from tests.servers.spark.fakehistory import FakeHistory, history
from tests.servers.spark.logs import OOM, SKEW
from tests.servers.spark.same import assert_same


@pytest.fixture
def fake() -> Iterator[FakeHistory]:
    with history() as server:
        yield server


@pytest.fixture
def real(fake: FakeHistory) -> Iterator[HistoryEngine]:
    engine = connect(fake.url)
    yield engine
    engine.close()


def test_it_says_what_the_folder_says(engine: FolderEngine, real: HistoryEngine) -> None:
    assert_same(engine, real)


def test_a_name_is_looked_for_among_all(real: HistoryEngine, fake: FakeHistory) -> None:
    assert [a.id for a in real.applications("SKEW", 5).applications] == [SKEW]
    assert [a.id for a in real.applications(OOM[:10], 5).applications] == [OOM]
    assert len(real.applications("", 2).applications) == 2
    assert "limit=2000" in fake.asked[0]


@pytest.mark.parametrize(
    "key",
    ["nope", "../environment", "a/b/c", "..", f"{SKEW}/7", "a b", "x" * 201, f"{SKEW}/../{OOM}", "", "a%2Fb"],
)
def test_there_is_no_such_application(real: HistoryEngine, fake: FakeHistory, key: str) -> None:
    with pytest.raises(NoApplication, match="list_applications"):
        real.run(key)
    assert all(path.startswith("/api/v1/applications/") and ".." not in path for path in fake.asked)


def test_attempts_are_told_apart(fake: FakeHistory, real: HistoryEngine) -> None:
    item = fake.answers[f"/applications/{SKEW}"]
    [only] = item["attempts"]
    item["attempts"] = [{**only, "attemptId": "2"}, {**only, "attemptId": "1", "completed": False}]
    fake.answers["/applications"] = [item]
    for path in ("/jobs", "/stages", "/allexecutors", "/environment", "/sql"):
        for attempt in ("1", "2"):
            fake.answers[f"/applications/{SKEW}/{attempt}{path}"] = fake.answers[
                f"/applications/{SKEW}{path}"
            ]
    assert [a.key for a in real.applications("", 5).applications] == [f"{SKEW}/2", f"{SKEW}/1"]
    assert real.run(SKEW).application.key == f"{SKEW}/2"
    first = real.run(f"{SKEW}/1")
    assert (first.application.key, first.incomplete, first.application.ended) == (f"{SKEW}/1", True, None)
    assert all(f"/{SKEW}/1/" in path for path in fake.asked[-5:])


def test_an_application_without_sql_and_one_without_summaries(fake: FakeHistory, real: HistoryEngine) -> None:
    del fake.answers[f"/applications/{SKEW}/sql"]
    for stage in fake.answers[f"/applications/{SKEW}/stages"]:
        stage.pop("taskMetricsDistributions")
    run = real.run(SKEW)
    assert run.queries == ()
    assert run.notes == ("This History Server sends no task summaries, so skew can't be seen.",)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>log in</html>", "not its REST API"),
        (200, b'{"a": 1}', "not its REST API"),
        (200, b"[" * 100_000, "not its REST API"),
        (200, b"\xff\xfe", "not its REST API"),
        (302, b"", "answered 302"),
        (401, b"", "refused this server's credentials"),
        (403, b"", "refused this server's credentials"),
        (500, b"stack trace", "answered 500"),
        (503, b"", "try again in a minute"),
    ],
)
def test_bad_answers_are_said_plainly(
    fake: FakeHistory, real: HistoryEngine, status: int, body: bytes, said: str
) -> None:
    fake.raw = (status, {"location": "http://127.0.0.1:1/"}, body)
    with pytest.raises(EngineError, match=said):
        real.applications("", 5)


def test_nonsense_of_the_right_shape_is_read_as_little(fake: FakeHistory, real: HistoryEngine) -> None:
    base = f"/applications/{SKEW}"
    fake.answers[base]["attempts"][0] |= {"startTimeEpoch": "soon", "sparkUser": 7, "completed": "yes"}
    fake.answers[f"{base}/stages"] = [{"status": "COMPLETE", "stageId": None, "name": ["a"]}, 7, None]
    fake.answers[f"{base}/jobs"] = [{"jobId": 1e400, "stageIds": "all"}]
    fake.answers[f"{base}/environment"] = {"sparkProperties": [["a"], "b", ["spark.x", 7]]}
    run = real.run(SKEW)
    assert [(stage.id, stage.name) for stage in run.stages] == [(0, "")]
    assert (run.properties, run.application.completed) == ({}, False)


def test_an_answer_too_large_is_not_read(fake: FakeHistory, real: HistoryEngine) -> None:
    """64 MiB of spaces compress to almost nothing: what counts is what comes out."""
    fake.raw = (200, {"content-encoding": "gzip"}, gzip.compress(b" " * (65 * 1024**2)))
    with pytest.raises(EngineError, match="too large"):
        real.applications("", 5)


def test_a_server_that_is_slow_or_gone(fake: FakeHistory) -> None:
    fake.hold = threading.Event()
    slow = HistoryEngine(httpx.Client(base_url=fake.url, timeout=0.2, trust_env=False))
    with pytest.raises(EngineError, match="took too long"):
        slow.applications("", 5)
    fake.hold.set()
    slow.close()
    gone = connect("http://127.0.0.1:1")
    with pytest.raises(EngineError, match="can't be reached"):
        gone.applications("", 5)
    gone.close()


def test_a_token_is_read_anew_for_each_request(fake: FakeHistory, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    engine = connect(fake.url, token=token)
    engine.applications("", 1)
    token.write_text("second\n")
    engine.applications("", 1)
    token.unlink()
    with pytest.raises(EngineError, match="credentials"):
        engine.applications("", 1)
    engine.close()
    assert fake.authorization == ["Bearer first", "Bearer second"]
    with pytest.raises(OSError, match="No such file"):
        connect(fake.url, token=tmp_path / "nowhere")


def test_times_are_read_as_the_server_writes_them() -> None:
    assert time("2026-11-22T21:44:09.884GMT") == 1795383849884
    assert time("yesterday") is None
    assert time("") is None
