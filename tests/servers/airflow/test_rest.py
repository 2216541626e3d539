"""The REST engine: the same tests on a fake over real HTTP, and on a real Airflow where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from servers.airflow.diagnosis import diagnose, pick_run
from servers.airflow.engine import Attempt, EngineError
from servers.airflow.loglines import tail
from servers.airflow.rest.client import Client, Password
from servers.airflow.rest.engine import RestEngine
from tests.mcpguard.running import listening
from tests.servers.airflow.embedded import ended
from tests.servers.airflow.fake_airflow import FakeAirflow
from tests.servers.airflow.standalone import VENV, Account, standalone

SLOW = 120.0
"""Seconds: a real one begins a process for each attempt, which takes it some of them."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(
    scope="module",
    params=["fake", pytest.param("real", marks=[pytest.mark.airflow, pytest.mark.xdist_group("airflow")])],
)
def account(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with ExitStack() as stack:
        if request.param == "fake":
            port = stack.enter_context(listening(FakeAirflow()))
            yield Account(f"http://127.0.0.1:{port}", FakeAirflow.username, FakeAirflow.password)
        elif venv := os.environ.get(VENV):
            home = tmp_path_factory.mktemp("airflow")
            yield stack.enter_context(standalone(Path(venv).absolute(), home))
        else:
            pytest.skip("needs an Airflow: `make test-airflow` installs one and runs this")


@pytest.fixture(scope="module")
def engine(account: Account) -> Iterator[RestEngine]:
    client = Client(account.url, Password(account.username, account.password))
    with closing(RestEngine(client)) as engine:
        yield engine


def test_dags(engine: RestEngine) -> None:
    page = engine.dags("", 10, 0)
    assert [dag.dag_id for dag in page.items] == ["failing", "good", "mixed"]
    good = page.items[1]
    assert (good.description, good.tags, good.paused, good.broken) == ("Works.", ("sample",), False, False)
    assert good.file == "good.py"
    assert [dag.dag_id for dag in engine.dags("GOO", 10, 0).items] == ["good"]
    part = engine.dags("", 1, 1)
    assert ([dag.dag_id for dag in part.items], part.total) == (["good"], 3)


def test_import_errors(engine: RestEngine) -> None:
    page = engine.import_errors(10, 0)
    (error,) = page.items
    assert (error.file, error.line, page.total) == ("broken.py", 3, 1)
    assert error.message.endswith("ModuleNotFoundError: No module named 'no_such_module_here'")


def test_a_run_that_works(engine: RestEngine) -> None:
    run = engine.trigger("good", {"day": "2026-01-01", "evil": "'; id #"}, "because")
    assert (run.state, run.run_type, run.note) == ("queued", "manual", "because")
    done = ended(engine, run, SLOW)
    assert done.state == "success"
    assert done.seconds is not None
    tasks = engine.task_instances("good", run.run_id)
    assert {task.task_id: task.state for task in tasks.items} == {"extract": "success", "load": "success"}
    assert diagnose(engine, done).causes == ()
    assert engine.runs("good", None, 1, 0).items[0].run_id == run.run_id
    assert engine.runs("good", "failed", 1, 0).total == 0
    assert engine.runs(None, "success", 10, 0).total >= 1


def test_a_run_that_fails_is_diagnosed_and_cleared(engine: RestEngine) -> None:
    run = engine.trigger("failing", {}, "")
    assert ended(engine, run, SLOW).state == "failed"
    found = diagnose(engine, pick_run(engine, "failing"))
    assert found.states == {"success": 1, "failed": 1, "upstream_failed": 1}
    (cause,) = found.causes
    assert (cause.task.task_id, cause.blocked, found.blocked) == ("transform", ("load",), ("load",))
    assert [each.number for each in cause.attempts] == [2, 1]
    assert cause.always_alike
    why = cause.attempts[0].found
    assert why is not None
    assert why.error == "ValueError: could not convert string to float: 'n/a'"
    assert why.place.endswith("/failing.py:18 in transform")
    assert "row 0" in why.lines
    assert not [line for line in why.lines if "task_runner.py" in line], "Airflow's own frames are left out"

    cleared = engine.clear("failing", run.run_id, [])
    assert {(task.task_id, task.state) for task in cleared} == {
        ("transform", "no_status"),
        ("load", "no_status"),
    }
    assert ended(engine, run, SLOW).state == "failed"
    tries = engine.tries("failing", run.run_id, "transform", -1)
    assert [each.try_number for each in tries] == [1, 2, 3, 4]
    assert {each.state for each in tries} == {"failed"}
    assert {t.task_id for t in engine.clear("failing", run.run_id, ["transform"])} == {"transform", "load"}
    assert ended(engine, run, SLOW).state == "failed"
    assert engine.tries("failing", run.run_id, "load", -1) == []


def test_other_failures(engine: RestEngine) -> None:
    run = engine.trigger("mixed", {}, "")
    found = diagnose(engine, ended(engine, run, SLOW))
    causes = {(cause.task.task_id, cause.task.map_index): cause.attempts[0].found for cause in found.causes}
    assert set(causes) == {("sh", -1), ("part", 1), ("big", -1)}
    sh, part, big = causes["sh", -1], causes["part", 1], causes["big", -1]
    assert sh is not None
    assert sh.error == "AirflowException: Bash command failed. The command returned a non-zero exit code 3."
    assert "cat: nothing" in sh.lines
    assert part is not None
    assert part.error == "RuntimeError: no part second line; caused by KeyError: 'k'"
    assert part.place.endswith("/mixed.py:13 in part")
    assert big is not None
    assert big.error == "Task exited with code 4"


def test_the_end_of_a_long_log(engine: RestEngine) -> None:
    run = engine.runs("mixed", None, 1, 0).items[0]
    with closing(engine.log(Attempt("mixed", run.run_id, "big", 1))) as lines:
        kept, first, total = tail((line for line in lines if not line.chatter), 3)
    assert len(kept) == 3
    assert total == first + 2
    # A real one may lose the last lines of a task that exits at once, and put its own words before others.
    assert 15_000 < total < 20_010
    assert all(line.text.startswith(("line 1", "Task exited with code 4")) for line in kept)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda e: e.runs("nope", None, 1, 0), "`nope` was not found"),
        (lambda e: e.run("good", "nope"), "`nope` was not found"),
        (lambda e: e.task_instances("good", "nope"), "`nope` was not found"),
        (lambda e: e.trigger("nope", {}, ""), "'nope' not found"),
        (lambda e: e.clear("good", "nope", []), "nope not found"),
        (
            lambda e: e.clear("good", e.runs("good", None, 1, 0).items[0].run_id, ["x"]),
            "none of these tasks: x",
        ),
        (lambda e: e.clear("good", e.runs("good", None, 1, 0).items[0].run_id, []), "Nothing failed"),
        (lambda e: e.runs("~", None, 1, 0), "'~' is no id"),
        (lambda e: e.run("..", "x"), "'..' is no id"),
        (lambda e: e.clear("failing", "~", []), "'~' is no id"),
    ],
)
def test_refusals_say_what_to_do(engine: RestEngine, ask: object, words: str) -> None:
    assert callable(ask)
    with pytest.raises(EngineError) as caught:
        ask(engine)
    assert words in str(caught.value)


def test_a_wrong_password(account: Account) -> None:
    engine = RestEngine(Client(account.url, Password(account.username, "wrong")))
    with closing(engine), pytest.raises(EngineError, match="this server's own account"):
        engine.dags("", 1, 0)


def test_a_token_that_airflow_does_not_know_any_more(account: Account) -> None:
    client = Client(account.url, Password(account.username, account.password))
    client._token = "from.before.yesterday"  # as after Airflow got a new key
    with closing(RestEngine(client)) as engine:
        assert engine.dags("", 1, 0).total == 3
