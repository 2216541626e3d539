"""Child processes: started, waited for until they say that they listen, watched, stopped.

A child of ours prints one line of JSON to stdout once it listens. Its stderr goes to its log. When
`gatehouse` itself is killed the kernel ends its children (PR_SET_PDEATHSIG), so that no stack stays behind on
ports that the next one wants.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from gatehouse.errors import Failure
from identity.principal import JsonValue

Ready: TypeAlias = Mapping[str, JsonValue]
"""What a component says of itself once it listens."""

STOP_SECONDS = 5.0
LOG_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Command:
    """One component and how to start it."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    says_ready: bool = True
    """Whether it prints a ready line; Envoy doesn't."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exited:
    """A child ended without being told to."""

    name: str
    code: int


class Child:
    """One running child process."""

    def __init__(self, command: Command, ended: Callable[[Exited], None]) -> None:
        self.command = command
        self._ended = ended
        self._stopping = False
        self._ready: SimpleQueue[Ready | None] = SimpleQueue()
        command.log.parent.mkdir(parents=True, exist_ok=True)
        self._log = command.log.open("ab")
        self._log_start = command.log.stat().st_size
        self._process = self._spawn()
        self._watch = threading.Thread(target=self._follow, name=f"watch-{command.name}", daemon=True)
        self._watch.start()

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - the arguments are ours
                self.command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **self.command.environment},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call into libc, no lock taken
            )
        except OSError as error:
            self._log.close()
            raise Failure(f"cannot start {self.command.name}: {error}") from error

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self, deadline: float) -> Ready:
        """What the child says once it listens.

        Raises:
            Failure: it ended, or said nothing until `deadline` (by the monotonic clock).

        """
        try:
            line = self._ready.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise Failure(f"{self.name} does not say that it listens; its log ends:\n{self.tail()}") from None
        if line is None:
            raise Failure(f"{self.name} ended before it listened; its log ends:\n{self.tail()}")
        return line

    def tail(self) -> str:
        """The last lines that this process wrote to its log."""
        with self.command.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (nothing)"

    def ask_to_stop(self) -> None:
        """Send SIGTERM; `stop` waits."""
        self._stopping = True
        if self.alive:
            self._process.terminate()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the process: SIGTERM, and SIGKILL where that doesn't do it in time."""
        self.ask_to_stop()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watch.join(seconds)
        self._log.close()

    def _follow(self) -> None:
        """Read stdout to its end: the ready line, then whatever else, into the log."""
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        waiting = self.command.says_ready
        with self._process.stdout as output:
            for line in output:
                ready = _ready_line(line) if waiting else None
                if ready is not None:
                    waiting = False
                    self._ready.put(ready)
                else:
                    self._log.write(line)
                    self._log.flush()
        code = self._process.wait()
        self._ready.put(None)
        if not self._stopping:
            self._ended(Exited(self.name, code))


def _ready_line(line: bytes) -> Ready | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "component" in parsed else None


def _die_with_parent() -> None:  # pragma: no cover - runs in the child, between fork and exec
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_all(children: Sequence[Child]) -> None:
    """Stop all of them at once, and wait for each."""
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.stop()
