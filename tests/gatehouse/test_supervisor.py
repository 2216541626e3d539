"""Child processes as they are in life: slow, dead before they listen, dead later."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from gatehouse.errors import Failure
from gatehouse.processes import Command
from gatehouse.supervisor import Supervisor
from tests.support.envoy import eventually

READY = 'print(\'{"component": "x", "listen": "127.0.0.1:1"}\', flush=True)'
SLEEP = "import signal; signal.pause()"


def python(tmp_path: Path, *lines: str, name: str = "x") -> Command:
    return Command(name, (sys.executable, "-c", "\n".join(lines)), tmp_path / f"{name}.log")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_component_is_up_once_it_says_so(tmp_path: Path) -> None:
    with Supervisor(print) as supervisor:
        ready = supervisor.start(python(tmp_path, "print('hello')", READY, "print('bye', flush=True)", SLEEP))
        assert ready["x"]["listen"] == "127.0.0.1:1"
        pid = supervisor.pids["x"]
        assert alive(pid)
        eventually(lambda: "bye" in (tmp_path / "x.log").read_text(), "stdout goes to the log")
    assert not alive(pid)
    assert "hello" in (tmp_path / "x.log").read_text()


def test_one_that_dies_first_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text("an earlier run\n")
    with (
        Supervisor(print) as supervisor,
        pytest.raises(Failure, match=r"(?s)x ended before it listened.*no such database") as caught,
    ):
        supervisor.start(python(tmp_path, "import sys", "sys.exit('no such database')"))
    assert "an earlier run" not in str(caught.value)


def test_one_that_says_nothing_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    with Supervisor(print) as supervisor, pytest.raises(Failure, match="does not say that it listens"):
        supervisor.start(python(tmp_path, SLEEP), seconds=0.3)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with Supervisor(print) as supervisor, pytest.raises(Failure, match="cannot start x"):
        supervisor.start(Command("x", ("/nonexistent",), tmp_path / "x.log"))


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with Supervisor(print) as supervisor:
        supervisor.start(python(tmp_path, stubborn, READY, "while True: signal.pause()"))
        pid = supervisor.pids["x"]
        supervisor.child("x").stop(0.2)
        assert not alive(pid)


class Interrupted(Exception):
    """Ends a watch, as Ctrl-C does."""


def watched(supervisor: Supervisor, said: list[str], until: str) -> None:
    """Watch until a line that begins with `until` was said."""

    def changed() -> None:
        if any(line.startswith(until) for line in said):
            raise Interrupted

    with pytest.raises(Interrupted):
        supervisor.watch(changed)


def test_one_that_dies_later_is_reported_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        supervisor.start(python(tmp_path, "import sys", "print('working', file=sys.stderr)", READY, SLEEP))
        before = supervisor.pids["x"]
        os.kill(before, signal.SIGKILL)
        watched(supervisor, said, "x started again")
        assert supervisor.pids["x"] != before
        assert alive(supervisor.pids["x"])
    assert said[0].startswith("x ended (killed by signal 9)")
    assert "working" in said[0]


def test_without_restart_it_stays_dead(tmp_path: Path) -> None:
    said: SimpleQueue[str] = SimpleQueue()
    with Supervisor(said.put, restart=False) as supervisor:
        supervisor.start(python(tmp_path, READY, SLEEP))
        threading.Thread(target=supervisor.watch, args=(lambda: None,), daemon=True).start()
        os.kill(supervisor.pids["x"], signal.SIGKILL)
        assert said.get(timeout=10).startswith("x ended")
        assert not supervisor.child("x").alive
