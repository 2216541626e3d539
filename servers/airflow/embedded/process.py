"""One attempt at one task: a subprocess with a deadline, in a process group that ends with it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_GRACE = 2.0
"""Seconds between asking a process to end and killing it."""
_BEAT = 0.1
"""Seconds until an end is noticed that no output told of."""
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and under which limit."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    timeout: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended; `words` is the line that its log closes with."""

    ok: bool
    words: str


class NotStarted(Exception):
    """There is no such program, or it may not be run."""


class Process:
    """A started job. `stop` may be called by another thread."""

    def __init__(self, job: Job) -> None:
        """Start it: without a shell, without input, with nothing of our environment but what the job says.

        Raises:
            NotStarted: it can't be.

        """
        self._job = job
        self._stopped = threading.Event()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list from a DAG file; callers can't reach it
                list(job.command),
                cwd=job.folder,
                env=dict(job.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise NotStarted(f"can't start {job.command[0]!r}: {error}") from None
        self.pid = self._process.pid

    def stop(self) -> None:
        """Ask for its end; `follow` returns soon."""
        self._stopped.set()

    def follow(self, take: Callable[[bytes], None]) -> Ended:
        """Hand on its output as it comes, empty chunks in between, until its whole group has ended."""
        deadline = time.monotonic() + self._job.timeout
        output = self._process.stdout
        assert output is not None  # noqa: S101 - PIPE was asked for
        with output:
            os.set_blocking(output.fileno(), False)
            late = self._read_until_end(output, take, deadline)
            self._end_group()
            _drain(output, take)
        return self._verdict(late)

    def _read_until_end(self, output: IO[bytes], take: Callable[[bytes], None], deadline: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while self._process.poll() is None:
                if self._stopped.is_set() or time.monotonic() >= deadline:
                    return not self._stopped.is_set()
                pause = max(0.0, min(_BEAT, deadline - time.monotonic()))
                if not selector.get_map():  # it closed its output and lives on
                    self._stopped.wait(pause)
                elif selector.select(pause):
                    chunk = os.read(output.fileno(), _CHUNK)
                    if not chunk:
                        selector.unregister(output)
                    take(chunk)
                else:
                    take(b"")
        return False

    def _end_group(self) -> None:
        """End what is left: the process where it is late, and children that it left behind in any case."""
        if self._process.poll() is None:
            _signal(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        _signal(self.pid, signal.SIGKILL)
        self._process.wait()

    def _verdict(self, late: bool) -> Ended:
        code = self._process.returncode
        if late:
            return Ended(
                False, f"Task was killed: it took longer than its timeout of {self._job.timeout:g} s"
            )
        if self._stopped.is_set():
            return Ended(False, "Task was killed: the server stopped")
        if code < 0:
            return Ended(False, f"Command was killed by {_signal_name(-code)}")
        return Ended(code == 0, f"Command exited with return code {code}")


def kill_left_over(pid: int, token: str) -> bool:
    """Kill the group of a process that an earlier server left behind, if it is still that process.

    Process ids are used again, so what counts is the token in its environment. Where there is no /proc to
    read that from, nothing is killed.
    """
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    if f"GATEHOUSE_ATTEMPT={token}".encode() not in environment:
        return False
    _signal(pid, signal.SIGKILL)
    return True


def _drain(output: IO[bytes], take: Callable[[bytes], None]) -> None:
    """Take what is left in the pipe. It is bounded: nobody of the group lives to write more."""
    for _ in range(64):  # a process that left the group could write for ever
        try:
            chunk = os.read(output.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            return
        take(chunk)


def _signal(group: int, number: signal.Signals) -> None:
    # All may be gone, of which macOS says PermissionError where only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
