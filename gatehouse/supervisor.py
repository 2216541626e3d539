"""Starts components, waits until they listen, starts again the ones that die, stops all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from gatehouse.errors import Failure
from gatehouse.processes import Child, Command, Exited, Ready, stop_all

START_SECONDS = 60.0
_FIRST_DELAY = 0.2
_LONGEST_DELAY = 5.0
_SETTLED = 30.0
"""A component that ran this long before it died starts again at once, not after a growing delay."""


@dataclass(slots=True)
class _Running:
    child: Child
    since: float
    failures: int = 0


class Supervisor:
    """A context: whatever was started in it is stopped at its end, the last started first asked."""

    def __init__(self, say: Callable[[str], None], *, restart: bool = True) -> None:
        self._say = say
        self._restart = restart
        self._running: dict[str, _Running] = {}
        self._exits: SimpleQueue[Exited] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_all([running.child for running in reversed(self._running.values())])
        self._running.clear()

    def start(self, *commands: Command, seconds: float = START_SECONDS) -> dict[str, Ready]:
        """Start these side by side; returns once each has said that it listens.

        Raises:
            Failure: one ended, or took longer than `seconds`; its last log lines are in the message.

        """
        begun = time.monotonic()
        self.begin(*commands)
        return {
            command.name: self.ready(command.name, begun + seconds)
            for command in commands
            if command.says_ready
        }

    def begin(self, *commands: Command) -> None:
        """Start these and wait for nothing: `ready` does, one by one."""
        for command in commands:
            self._spawn(command)

    def ready(self, name: str, deadline: float) -> Ready:
        """Wait until `name`, which was begun, says that it listens.

        Raises:
            Failure: it ended, or said nothing until `deadline` (by the monotonic clock).

        """
        return self._running[name].child.ready(deadline)

    def child(self, name: str) -> Child:
        """The running child of this name."""
        return self._running[name].child

    @property
    def pids(self) -> Mapping[str, int]:
        return {name: running.child.pid for name, running in self._running.items()}

    def until(self, condition: Callable[[], bool], name: str, seconds: float = START_SECONDS) -> None:
        """Wait until `condition` holds of the running `name`.

        Raises:
            Failure: it ended first, or it took too long.

        """
        child = self.child(name)
        deadline = time.monotonic() + seconds
        while not condition():
            if not child.alive:
                raise Failure(f"{name} ended while it started; its log ends:\n{child.tail()}")
            if time.monotonic() > deadline:
                raise Failure(f"{name} is not ready after {seconds:g} s; its log ends:\n{child.tail()}")
            time.sleep(0.02)

    def watch(self, changed: Callable[[], None]) -> None:
        """Report and replace every child that dies, until interrupted. `changed` is told of new pids."""
        due: dict[str, float] = {}
        while True:
            wait = min(due.values(), default=None)
            try:
                ended = self._exits.get(timeout=None if wait is None else max(0.0, wait - time.monotonic()))
            except Empty:
                self._revive(due, changed)
            else:
                delay = self._report(ended)
                if self._restart:
                    due[ended.name] = time.monotonic() + delay

    def _spawn(self, command: Command) -> None:
        before = self._running.get(command.name)
        child = Child(command, self._exits.put)
        self._running[command.name] = _Running(child, time.monotonic(), before.failures if before else 0)

    def _report(self, ended: Exited) -> float:
        """Say what happened; returns the seconds to wait before starting it again."""
        running = self._running[ended.name]
        how = f"killed by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        self._say(f"{ended.name} ended ({how}); its log ends:\n{running.child.tail()}")
        settled = time.monotonic() - running.since > _SETTLED
        running.failures = 0 if settled else running.failures + 1
        return float(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** max(0, running.failures - 1)))

    def _revive(self, due: dict[str, float], changed: Callable[[], None]) -> None:
        now = time.monotonic()
        for name in [name for name, at in due.items() if at <= now]:
            del due[name]
            old = self._running[name].child
            old.stop()
            self._spawn(old.command)
            self._say(f"{name} started again (pid {self.child(name).pid})")
        changed()
