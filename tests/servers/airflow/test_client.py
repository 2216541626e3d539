"""What Airflow may do to its client: be away, be slow to explain, be something else, know too much."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response

from servers.airflow.diagnosis import diagnose
from servers.airflow.engine import Attempt, EngineError
from servers.airflow.rest import client as rest_client
from servers.airflow.rest.client import Client, ConfigurationError, Password, Token
from servers.airflow.rest.decode import log_lines
from servers.airflow.rest.engine import MAX_INSTANCES, RestEngine
from tests.mcpguard.running import listening
from tests.servers.airflow.fake_airflow import FakeAirflow

USER = Password(FakeAirflow.username, FakeAirflow.password)


@pytest.fixture
def fake() -> FakeAirflow:
    return FakeAirflow()


@pytest.fixture
def engine(fake: FakeAirflow) -> Iterator[RestEngine]:
    with listening(fake) as port, closing(RestEngine(Client(f"http://127.0.0.1:{port}", USER))) as engine:
        yield engine


def says(engine: RestEngine) -> str:
    with pytest.raises(EngineError) as caught:
        engine.dags("", 1, 0)
    return str(caught.value)


def test_signs_in_once_for_many_questions(fake: FakeAirflow, engine: RestEngine) -> None:
    for _ in range(3):
        engine.dags("", 1, 0)
    assert fake.asked.count("POST /auth/token") == 1


def test_signs_in_again_when_the_token_is_over(fake: FakeAirflow, engine: RestEngine) -> None:
    engine.dags("", 1, 0)
    fake.tokens.clear()
    assert engine.dags("", 1, 0).total == 3
    assert fake.asked.count("POST /auth/token") == 2


def test_a_trigger_is_sent_once_and_as_the_api_wants_it(fake: FakeAirflow, engine: RestEngine) -> None:
    engine.trigger("good", {"a": "$(id)"}, "")
    assert fake.asked.count("POST /api/v2/dags/good/dagRuns") == 1
    assert fake.bodies[-1] == {"logical_date": None, "conf": {"a": "$(id)"}, "note": None}
    fake.broken = Response(status_code=503)
    with pytest.raises(EngineError, match="can't be reached"):
        engine.trigger("good", {}, "")
    assert fake.asked.count("POST /api/v2/dags/good/dagRuns") == 2, "what may have been done isn't done again"


def test_a_question_is_asked_again_once(fake: FakeAirflow, engine: RestEngine) -> None:
    fake.broken = Response(status_code=502)
    assert says(engine).startswith("Airflow can't be reached now.")
    assert fake.asked.count("GET /api/v2/dags") == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(status_code=500), "Airflow failed inside (HTTP 500)"),
        (JSONResponse({"detail": "Forbidden"}, 403), "forbids it to this server's own account: Forbidden"),
        (JSONResponse({"detail": [{"msg": "Field required"}]}, 422), "Airflow refuses: Field required."),
        (
            JSONResponse({"detail": {"reason": "Unique constraint violation"}}, 409),
            "Unique constraint violation",
        ),
        (Response("<html>", 400), "it does not say why"),
        (Response("<html>hello</html>"), "not JSON"),
        (JSONResponse([1]), "not the API v2's"),
        (Response("[" * 100_000), "not JSON"),
        (RedirectResponse("http://169.254.169.254/"), "Airflow refuses"),
        (Response(b'"' + b"x" * rest_client.MAX_ANSWER + b'"'), "too large"),
    ],
)
def test_strange_answers(fake: FakeAirflow, engine: RestEngine, answer: Response, words: str) -> None:
    fake.broken = answer
    assert words in says(engine)


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        with closing(RestEngine(Client(f"http://127.0.0.1:{taken.getsockname()[1]}", USER))) as engine:
            assert says(engine).startswith("Airflow can't be reached now.")


def test_a_token_of_somebody_elses_making(fake: FakeAirflow) -> None:
    fake.tokens.add("given")
    with listening(fake) as port:
        with closing(RestEngine(Client(f"http://127.0.0.1:{port}", Token("given")))) as engine:
            assert engine.dags("", 1, 0).total == 3
        with closing(RestEngine(Client(f"http://127.0.0.1:{port}", Token("stale")))) as engine:
            assert "Invalid JWT token" in says(engine)
    assert "POST /auth/token" not in fake.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://airflow.corp.example",
        "ftp://127.0.0.1",
        "127.0.0.1:8080",
        "https://u:p@airflow.corp.example",
        "https://airflow.corp.example/?x=1",
        "http://localhost.evil.example",
        "",
    ],
)
def test_addresses_that_wont_do(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Client(url, USER)


def test_ids_are_quoted(fake: FakeAirflow, engine: RestEngine) -> None:
    with pytest.raises(EngineError):
        engine.run("a/b", "scheduled__2026-01-01T00:00:00+00:00")
    assert fake.asked[-1] == "GET /api/v2/dags/a%2Fb/dagRuns/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00"


def test_a_run_of_very_many_tasks(fake: FakeAirflow, engine: RestEngine) -> None:
    run = engine.trigger("good", {}, "")
    task = fake.instances["good", run.run_id][0]
    fake.instances["good", run.run_id] = [
        {**task, "task_id": "part", "map_index": n, "state": "failed" if n == 1450 else "success"}
        for n in range(1500)
    ]
    page = engine.task_instances("good", run.run_id)
    assert (page.items[0].map_index, page.total) == (1450, 1500)
    assert len(page.items) == MAX_INSTANCES + 1
    found = diagnose(engine, run)
    assert [cause.task.map_index for cause in found.causes] == [1450]
    assert found.unseen == 499


def test_a_log_without_an_end(fake: FakeAirflow, engine: RestEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "MAX_LOG", 100_000)
    fake.extra_lines = (b'{"event":"again"}\n' for _ in iter(int, 1))
    run = engine.trigger("good", {}, "")
    with closing(engine.log(Attempt("good", run.run_id, "extract", 1))) as lines:
        *_, last = lines
    assert last.text.startswith("[the log goes on; only its first")


def test_a_log_that_is_left_early_is_hung_up(fake: FakeAirflow, engine: RestEngine) -> None:
    fake.extra_lines = (b'{"event":"again"}\n' for _ in iter(int, 1))
    run = engine.trigger("good", {}, "")
    with closing(engine.log(Attempt("good", run.run_id, "extract", 1))) as lines:
        next(lines)
    assert engine.dags("", 1, 0).total == 3


def test_structured_messages() -> None:
    lines = [
        '{"timestamp":null,"event":"::group::Log message source details"}',
        '{"event":"/logs/x.log"}',
        '{"event":"::endgroup::"}',
        '{"timestamp":"T","event":"two\\nlines \\u2028 and more","level":"info"}',
        '{"event":"::group::mine","logger":"task.stdout"}',
        '{"event":"kept","logger":"task.stdout"}',
        '{"event":"Task exited","level":"error","exit_code":4}',
        "",
        "no JSON at all",
        '"a string"',
        "[1]",
        '{"event":5}',
    ]
    seen = [line for line in log_lines(lines) if not line.chatter]
    assert [line.text for line in seen] == [
        "two",
        "lines \u2028 and more",
        "kept",
        "Task exited with code 4",
        "no JSON at all",
        "a string",
        "[1]",
        "",
    ]
    assert (seen[0].time, seen[0].level) == ("T", "info")


def test_what_is_missing_or_wrong_becomes_empty(fake: FakeAirflow, engine: RestEngine) -> None:
    odd: dict[str, Any] = {"dags": [{"dag_id": 5, "tags": [1, {"name": None}]}, 7], "total_entries": "x"}
    fake.broken = JSONResponse(odd)
    page = engine.dags("", 10, 0)
    assert (page.total, page.items[0].dag_id, page.items[0].tags) == (1, "", ("",))


def test_ca_file_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Client("https://airflow.corp.example", USER, ca=tmp_path / "none.pem")
