"""The embedded engine with real subprocesses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from servers.airflow.embedded.engine import EmbeddedEngine
from servers.airflow.engine import UNMAPPED, EngineError, Run
from tests.servers.airflow.embedded import World, dag, shell, until


def test_a_run_from_its_trigger_to_its_end(world: World) -> None:
    tasks = {
        "first": shell("echo one; echo two >&2"),
        "second": shell("echo three") + ", depends_on: [first]",
    }
    world.write("good", dag("good", tasks, "description: Works."))
    run = world.engine.trigger("good", {}, "because")
    assert (run.state, run.run_type, run.note) == ("queued", "manual", "because")
    done = world.ended(run)
    assert done.state == "success"
    assert done.queued <= done.started <= done.ended
    assert world.states(run) == {"first": "success", "second": "success"}
    assert world.log(run, "first") == ["one", "two", "Command exited with return code 0"]
    assert world.task(run, "first").ended <= world.task(run, "second").started


def test_what_depends_on_a_failure_never_begins(world: World) -> None:
    world.write(
        "bad",
        dag(
            "bad",
            {
                "a": shell("exit 3"),
                "b": shell("echo no") + ", depends_on: [a]",
                "c": shell("echo no") + ", depends_on: [b]",
                "d": shell("echo yes"),
            },
        ),
    )
    run = world.engine.trigger("bad", {}, "")
    assert world.ended(run).state == "failed"
    assert world.states(run) == {
        "a": "failed",
        "b": "upstream_failed",
        "c": "upstream_failed",
        "d": "success",
    }
    assert world.log(run, "a") == ["Command exited with return code 3"]
    assert world.engine.tries("bad", run.run_id, "b", UNMAPPED) == []


def test_a_retry_that_succeeds(world: World) -> None:
    flaky = shell('echo "try $AIRFLOW_CTX_TRY_NUMBER"; test "$AIRFLOW_CTX_TRY_NUMBER" = 3')
    world.write("flaky", dag("flaky", {"a": f"{flaky}, retries: 3, retry_delay: 0.05s"}))
    run = world.engine.trigger("flaky", {}, "")
    assert world.ended(run).state == "success"
    tries = world.engine.tries("flaky", run.run_id, "a", UNMAPPED)
    assert [(each.try_number, each.state) for each in tries] == [(1, "failed"), (2, "failed"), (3, "success")]
    assert world.log(run, "a", 2) == ["try 2", "Command exited with return code 1"]
    assert world.log(run, "a", 3) == ["try 3", "Command exited with return code 0"]


def test_the_pause_before_a_retry_is_kept(world: World) -> None:
    world.write("slow", dag("slow", {"a": shell("exit 1") + ", retries: 1, retry_delay: 1d"}))
    run = world.engine.trigger("slow", {}, "")
    until(lambda: world.states(run) == {"a": "up_for_retry"} or None, "the first failure")
    assert world.engine.run("slow", run.run_id).state == "running"


def test_a_timeout_ends_the_whole_group(world: World, tmp_path: Path) -> None:
    """The child ignores SIGTERM, its own child too; neither may live on."""
    pids = tmp_path / "pids"
    script = (
        f"trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ >> {pids}; sleep 60\" & echo $$ >> {pids}; sleep 60"
    )
    world.script("stubborn.sh", script)
    world.write("late", dag("late", {"a": "command: [sh, stubborn.sh], timeout: 0.5s"}))
    run = world.engine.trigger("late", {}, "")
    assert world.ended(run).state == "failed"
    assert world.log(run, "a")[-1] == "Task was killed: it took longer than its timeout of 0.5 s"
    for pid in pids.read_text().split():
        until(lambda pid=pid: not alive(int(pid)) or None, f"the end of {pid}")  # type: ignore[misc]


def test_a_child_left_behind_neither_holds_the_task_up_nor_lives_on(world: World, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    world.write("forks", dag("forks", {"a": shell(f"sleep 60 & echo $! > {pid}; echo done")}))
    run = world.engine.trigger("forks", {}, "")
    assert world.ended(run).state == "success"
    until(lambda: not alive(int(pid.read_text())) or None, "the end of the child")


def test_a_program_that_is_not_there(world: World) -> None:
    world.write("none", dag("none", {"a": "command: [no-such-program, x]"}))
    run = world.engine.trigger("none", {}, "")
    assert world.ended(run).state == "failed"
    (line,) = world.log(run, "a")
    assert line.startswith("can't start 'no-such-program': ")


def test_conf_is_data_and_never_part_of_a_command(world: World) -> None:
    world.write("conf", dag("conf", {"a": shell('cat "$DAG_RUN_CONF"; echo; echo "args: $*"; env')}))
    conf = {"day": "2026-01-01", "evil": "$(touch pwned); `id`\n; rm -rf /", "list": [1, None, "é"]}
    run = world.engine.trigger("conf", conf, "")
    world.ended(run)
    lines = world.log(run, "a")
    assert json.loads(lines[0]) == conf
    assert lines[1] == "args: "
    assert not [line for line in lines[2:] if "pwned" in line]
    assert not (world.dags / "pwned").exists()


def test_the_environment_is_what_the_file_says(tmp_path: Path) -> None:
    world = World(tmp_path, pass_env=frozenset({"DB_PASSWORD"}))
    world.environment |= {"DB_PASSWORD": "s3cret-value", "OTHER": "never", "GATEHOUSE_AIRFLOW_TOKEN": "never"}
    script = shell('env | sort; echo "it is $DB_PASSWORD"')
    inside = script + ", env: {MODE: fast}, pass_env: [DB_PASSWORD]"
    world.write("env", dag("env", {"a": inside, "b": shell("env")}))
    run = world.engine.trigger("env", {}, "")
    world.ended(run)
    lines = world.log(run, "a")
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "AIRFLOW_CTX_DAG_ID",
        "AIRFLOW_CTX_DAG_RUN_ID",
        "AIRFLOW_CTX_TASK_ID",
        "AIRFLOW_CTX_TRY_NUMBER",
        "DAG_RUN_CONF",
        "DB_PASSWORD",
        "GATEHOUSE_ATTEMPT",
        "HOME",
        "MODE",
        "PATH",
        "PYTHONUNBUFFERED",
        "TMPDIR",
    }
    assert "MODE=fast" in lines
    assert "it is ***" in lines, "what was passed is kept out of the log"
    assert not [line for line in world.log(run, "b") if "DB_PASSWORD" in line or "never" in line]
    world.close()


def test_at_most_so_many_at_once(tmp_path: Path) -> None:
    """Each task notes that it began and that it ended: never may three have begun that didn't end."""
    world = World(tmp_path, at_once=2)
    notes = tmp_path / "notes"
    step = shell(f"echo + >> {notes}; sleep 0.1; echo - >> {notes}")
    world.write("many", dag("many", dict.fromkeys("abcdef", step)))
    run = world.engine.trigger("many", {}, "")
    assert world.ended(run).state == "success"
    open_now = most = 0
    for sign in notes.read_text().split():
        open_now += 1 if sign == "+" else -1
        most = max(most, open_now)
    world.close()
    assert most == 2


def test_runs_of_one_dag_wait_for_each_other(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    world.write(
        "single",
        dag("single", {"a": shell(f"until test -e {gate}; do sleep 0.02; done")}, "max_active_runs: 1"),
    )
    first, second = (world.engine.trigger("single", {}, "") for _ in range(2))
    until(lambda: world.states(first) == {"a": "running"} or None, "the first run")
    assert world.engine.run("single", second.run_id).state == "queued"
    gate.touch()
    assert world.ended(first).state == world.ended(second).state == "success"
    assert world.engine.run("single", first.run_id).ended <= world.engine.run("single", second.run_id).started


def test_clearing_runs_downstream_again_and_by_the_mended_file(world: World) -> None:
    tasks = {
        "a": shell("echo fine"),
        "b": shell("exit 1"),
        "c": shell("echo after") + ", depends_on: [b]",
    }
    world.write("mend", dag("mend", tasks))
    run = world.engine.trigger("mend", {}, "")
    assert world.ended(run).state == "failed"
    world.write("mend", dag("mend", tasks | {"b": shell("echo mended")}))
    cleared = world.engine.clear("mend", run.run_id, [])
    assert {task.task_id for task in cleared} == {"b", "c"}
    assert world.ended(run).state == "success"
    assert world.states(run) == {"a": "success", "b": "success", "c": "success"}
    assert world.task(run, "a").try_number == 1, "what succeeded stays as it was"
    assert world.task(run, "b").try_number == 2
    assert world.log(run, "b", 1) == ["Command exited with return code 1"], "the earlier log is still there"
    assert world.log(run, "b", 2)[0] == "mended"


def test_clearing_one_task_that_succeeded(world: World) -> None:
    world.write("again", dag("again", {"a": shell("echo"), "b": shell("echo") + ", depends_on: [a]"}))
    run = world.engine.trigger("again", {}, "")
    world.ended(run)
    assert [task.task_id for task in world.engine.clear("again", run.run_id, ["b"])] == ["b"]
    world.ended(run)
    assert (world.task(run, "a").try_number, world.task(run, "b").try_number) == (1, 2)


def test_clearing_gives_the_retries_back(world: World) -> None:
    world.write("twice", dag("twice", {"a": shell("exit 1") + ", retries: 1"}))
    run = world.engine.trigger("twice", {}, "")
    world.ended(run)
    world.engine.clear("twice", run.run_id, ["a"])
    world.ended(run)
    assert world.task(run, "a").try_number == 4


def test_what_cant_be_cleared(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    world.write("busy", dag("busy", {"a": shell(f"until test -e {gate}; do sleep 0.02; done")}))
    run = world.engine.trigger("busy", {}, "")
    until(lambda: world.states(run) == {"a": "running"} or None, "the task's start")
    with pytest.raises(EngineError, match="a is running now"):
        world.engine.clear("busy", run.run_id, ["a"])
    gate.touch()
    assert world.ended(run).state == "success"
    with pytest.raises(EngineError, match="no task b; it has a"):
        world.engine.clear("busy", run.run_id, ["b"])
    with pytest.raises(EngineError, match="Nothing failed"):
        world.engine.clear("busy", run.run_id, [])
    world.write("busy", dag("busy", {"other": shell("echo")}))
    with pytest.raises(EngineError, match="no task a any more"):
        world.engine.clear("busy", run.run_id, ["a"])


def test_editing_a_file_changes_no_run_that_is_on_its_way(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = shell(f"until test -e {gate}; do sleep 0.02; done")
    world.write("edit", dag("edit", {"a": wait, "b": shell("echo old") + ", depends_on: [a]"}))
    run = world.engine.trigger("edit", {}, "")
    until(lambda: world.states(run)["a"] == "running" or None, "the first task")
    world.write("edit", dag("edit", {"a": wait, "b": shell("echo new") + ", depends_on: [a]"}))
    gate.touch()
    world.ended(run)
    assert world.log(run, "b")[0] == "old"


def test_a_long_log_keeps_its_beginning_and_its_end(world: World) -> None:
    world.script("talk.py", "for n in range(60000): print(f'line {n:06}', 'x' * 40)\nraise SystemExit(1)")
    world.write("talk", dag("talk", {"a": f"command: ['{sys.executable}', talk.py]"}))
    run = world.engine.trigger("talk", {}, "")
    world.ended(run)
    lines = world.log(run, "a")
    assert lines[0].startswith("line 000000 ")
    assert lines[-2].startswith("line 059999 ")
    (gap,) = [line for line in lines if line.startswith("[")]
    dropped = int(gap.removeprefix("[").partition(" ")[0])
    assert dropped + len(lines) - 1 == 60001
    assert sum(len(line) for line in lines) < 1024 * 1024


def test_what_a_terminal_would_act_on_is_taken_out(world: World) -> None:
    world.script("colours.py", "print('\\x1b[31mred\\x1b[0m\\x07 \\x1b]0;title\\x07end' + 'y' * 5000)")
    world.write("colours", dag("colours", {"a": f"command: ['{sys.executable}', colours.py]"}))
    run = world.engine.trigger("colours", {}, "")
    world.ended(run)
    line = world.log(run, "a")[0]
    assert line.startswith("red endyyy")
    assert line.endswith("y [the line goes on]")
    assert len(line) < 4200


def test_a_log_can_be_read_while_its_task_runs(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    world.write("live", dag("live", {"a": shell(f"echo begun; until test -e {gate}; do sleep 0.02; done")}))
    run = world.engine.trigger("live", {}, "")

    def look() -> list[str] | None:
        return world.log(run, "a") or None if world.states(run)["a"] == "running" else None

    assert until(look, "the first line") == ["begun"]
    gate.touch()
    world.ended(run)


def test_closing_kills_what_runs_and_says_so(world: World, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    world.write("long", dag("long", {"a": shell(f"echo $$ > {pid}; sleep 60") + ", retries: 5"}))
    run = world.engine.trigger("long", {}, "")
    until(lambda: (pid.exists() and pid.read_text().strip()) or None, "the task's start")
    world.close()
    assert not alive(int(pid.read_text()))
    assert world.engine.run("long", run.run_id).state == "failed"
    assert world.log(run, "a")[-1] == "Task was killed: the server stopped"


def test_after_a_kill_what_was_running_has_failed(world: World, tmp_path: Path) -> None:
    """The server is killed outright; the next one kills what it left behind, and goes on with what waited."""
    pid = tmp_path / "pid"
    first = dag("long", {"a": shell(f"echo $$ > {pid}; echo hello; sleep 60")}, "max_active_runs: 1")
    world.write("long", first)
    script = textwrap.dedent(f"""\
        import os, time
        from pathlib import Path
        from servers.airflow.embedded.engine import EmbeddedEngine
        engine = EmbeddedEngine(Path({str(world.dags)!r}), Path({str(world.state)!r}), environment=os.environ)
        print(engine.trigger("long", {{}}, "").run_id, engine.trigger("long", {{}}, "").run_id, flush=True)
        time.sleep(60)
        """)
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server, server.stdout as output:
        left, waiting = output.readline().split()
        until(lambda: (pid.exists() and pid.read_text().strip()) or None, "the task's start")
        server.send_signal(signal.SIGKILL)
        server.wait()
    orphan = int(pid.read_text())
    pid.unlink()
    world.write("long", dag("long", {"a": shell("echo quick")}, "max_active_runs: 1"))
    assert world.engine.run("long", left).state == "failed"
    until(lambda: not alive(orphan) or None, "the end of the orphan")
    assert world.engine.tries("long", left, "a", UNMAPPED)[0].state == "failed"
    run = world.engine.run("long", left)
    assert world.log(run, "a")[-1] == "Task failed: the server was killed while it ran"
    until(lambda: (pid.exists() and pid.read_text().strip()) or None, "the run that waited")
    assert world.engine.run("long", waiting).state == "running"


def test_a_process_of_somebody_else_with_that_number_is_let_live() -> None:
    from servers.airflow.embedded.process import kill_left_over

    with subprocess.Popen(
        ["sleep", "60"], env={"GATEHOUSE_ATTEMPT": "another"}, start_new_session=True
    ) as other:
        environment = Path(f"/proc/{other.pid}/environ")
        until(
            lambda: environment.read_bytes() or None, "its environment, which comes a moment after its start"
        )
        assert not kill_left_over(other.pid, "mine")
        assert other.poll() is None
        assert kill_left_over(other.pid, "another")
        assert other.wait(10) == -signal.SIGKILL


def test_one_owner_of_the_state_file(world: World) -> None:
    assert world.engine.dags("", 10, 0).total == 0
    with pytest.raises(EngineError, match="another process uses"):
        EmbeddedEngine(world.dags, world.state, environment={})
    assert world.state.stat().st_mode & 0o777 == 0o600


def test_import_errors_have_file_and_line(world: World) -> None:
    world.write("good", dag("good", {"a": shell("echo")}))
    world.write("bad", "dag_id: bad\ntasks:\n  a: {command: ls}\n")
    world.write("twin", dag("good", {"a": shell("echo")}))
    (world.dags / "not-text.yaml").write_bytes(b"\xff\xfe\x00")
    (world.dags / "notes.txt").write_text("not a DAG")
    page = world.engine.import_errors(10, 0)
    assert [(each.file, each.line) for each in page.items] == [
        ("bad.yaml", 3),
        ("bad.yaml", 3),
        ("not-text.yaml", 1),
        ("twin.yaml", 1),
    ]
    assert page.items[3].message == "the DAG 'good' is already in good.yaml; this one is left out"
    assert [each.dag_id for each in world.engine.dags("", 10, 0).items] == ["good"]
    with pytest.raises(EngineError, match="There is no DAG 'bad'"):
        world.engine.trigger("bad", {}, "")


def test_a_file_that_breaks_keeps_its_last_good_dag(world: World) -> None:
    path = world.write("x", dag("x", {"a": shell("echo")}))
    assert not world.engine.dags("", 10, 0).items[0].broken
    world.write("x", "dag_id: x\n")
    assert world.engine.dags("", 10, 0).items[0].broken
    assert world.engine.import_errors(10, 0).total == 1
    assert world.ended(world.engine.trigger("x", {}, "")).state == "success"
    path.unlink()
    assert world.engine.dags("", 10, 0).total == 0
    assert world.engine.import_errors(10, 0).total == 0


def test_what_runs_by_itself(world: World) -> None:
    world.write("daily", dag("daily", {"a": shell("echo")}, "every: 1d"))

    def look() -> Run | None:
        return next(iter(world.engine.runs("daily", "success", 10, 0).items), None)

    run = until(look, "the scheduled run")
    assert run.run_type == "scheduled"
    assert world.engine.dags("", 10, 0).items[0].schedule == "every 1d"
    world.close()
    world.write("other", dag("other", {"a": shell("echo")}, "every: 1d"))
    until(lambda: world.engine.runs("other", "success", 10, 0).items or None, "the other's run")
    assert world.engine.runs("daily", None, 10, 0).total == 1, "once a day, also across a restart"


def test_lists_are_paged_and_filtered(world: World) -> None:
    for name in ("b_one", "a_one", "c_two"):
        world.write(name, dag(name, {"a": shell("exit 1" if name == "c_two" else "echo")}))
    assert [each.dag_id for each in world.engine.dags("ONE", 10, 0).items] == ["a_one", "b_one"]
    page = world.engine.dags("", 1, 1)
    assert ([each.dag_id for each in page.items], page.total) == (["b_one"], 3)
    runs = [world.ended(world.engine.trigger(name, {}, "")) for name in ("a_one", "b_one", "c_two")]
    assert world.engine.runs(None, None, 10, 0).items == tuple(reversed(runs))
    assert world.engine.runs(None, "failed", 10, 0).items == (runs[2],)
    assert world.engine.runs("a_one", None, 10, 0).items == (runs[0],)
    assert world.engine.runs(None, None, 1, 1).items == (runs[1],)
    with pytest.raises(EngineError, match="There is no DAG 'nope'"):
        world.engine.runs("nope", None, 10, 0)
    with pytest.raises(EngineError, match="There is no run 'nope' of 'a_one'"):
        world.engine.run("a_one", "nope")


def alive(pid: int) -> bool:
    """Whether a process lives; one that ended and waits to be collected doesn't."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
