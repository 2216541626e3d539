"""The decision log: every decision as one JSON line, written off the request path.

`docs/schema/decision-log.v1.json` describes a line. The queue is bounded: while the disk can't keep up,
allows are dropped before denials, and both are counted. A token is never in a line; a user is its key.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from extauthz.trail import Trail, outcome, reason_code, surface_of
from pdp.methods import MethodClass, classify
from pdp.model import Allow, Deny, Location, Shadow

VERSION: Final = 1
CAPACITY: Final = 10_000
"""Decisions that wait at most. As many again can be in the batch that is being written."""
GATHERING: Final = 0.05
"""Seconds that a first decision waits for others, so that the writer wakes 20 times a second at most."""
STDOUT: Final = "-"

# What begins like the header of a JWT, with whatever follows of it: names and URIs are a caller's to choose.
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")

Field: TypeAlias = "str | int | list[dict[str, str]] | None"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How the log does, for metrics."""

    waiting: int
    dropped_allows: int
    dropped_denials: int
    """Denials, and decisions that nobody could make."""
    written: int


class DecisionLog:
    """A bounded queue and the thread that writes it to a file, or to standard output for `-`."""

    def __init__(self, path: str, capacity: int = CAPACITY) -> None:
        """Open `path` for appending.

        Raises:
            OSError: it can't be opened.

        """
        self._path = path
        self._capacity = capacity
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._allows: deque[Trail] = deque()
        self._denials: deque[Trail] = deque()
        self._dropped_allows = self._dropped_denials = self._written = 0
        self._reopen = False
        self._closing = threading.Event()
        self._descriptor = _open(path)
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def put(self, trail: Trail) -> None:
        """Queue one decision. Never waits for the disk; over capacity an allow goes first."""
        allowed = isinstance(trail.decision, Allow)
        with self._lock:
            if len(self._allows) + len(self._denials) >= self._capacity and not self._make_room(allowed):
                return
            (self._allows if allowed else self._denials).append(trail)
        if not self._wake.is_set():
            self._wake.set()

    def _make_room(self, allowed: bool) -> bool:
        """Whether the newcomer has a place; what is lost is counted. Holds the lock."""
        if allowed:
            self._dropped_allows += 1
            return False
        if self._allows:
            self._allows.popleft()
            self._dropped_allows += 1
            return True
        self._dropped_denials += 1
        return False

    def reopen(self) -> None:
        """Open the path anew before the next line: what log rotation asks for by SIGHUP."""
        self._reopen = True
        self._wake.set()

    def close(self, timeout: float) -> bool:
        """Write what waits, then stop; False where `timeout` seconds pass first."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> LogStatus:
        """A consistent look at the counters."""
        with self._lock:
            waiting = len(self._allows) + len(self._denials)
            return LogStatus(waiting, self._dropped_allows, self._dropped_denials, self._written)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(GATHERING)
            self._wake.clear()
            closing = self._closing.is_set()  # read before the queue: what was put before is still written
            batch = self._take()
            if self._reopen:
                self._reopen = False
                self._open_anew()
            if batch:
                self._write(batch)
            if closing:
                return

    def _take(self) -> list[Trail]:
        with self._lock:
            batch = [*self._allows, *self._denials]
            self._allows.clear()
            self._denials.clear()
        batch.sort(key=_began)
        return batch

    def _open_anew(self) -> None:
        try:
            descriptor = _open(self._path)
        except OSError as error:
            _logger.error("the decision log can't be opened anew: %s", error.strerror)
            return
        if self._descriptor != sys.stdout.fileno():
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _write(self, batch: Sequence[Trail]) -> None:
        data = memoryview(b"".join(encode(trail) for trail in batch))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            _logger.error("the decision log can't be written: %s", error.strerror)
            allows = sum(isinstance(trail.decision, Allow) for trail in batch)
            with self._lock:
                self._dropped_allows += allows
                self._dropped_denials += len(batch) - allows
            return
        with self._lock:
            self._written += len(batch)


def _open(path: str) -> int:
    if path == STDOUT:
        return sys.stdout.fileno()
    # Appending, so that several processes may share a file; readable by the group that ships logs.
    return os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _began(trail: Trail) -> float:
    return trail.time


def encode(trail: Trail) -> bytes:
    """One decision as a line of JSON, in ASCII. A token that a caller put in a name is not one in the log."""
    text = json.dumps(line(trail), separators=(",", ":"))
    return _TOKEN.sub("(token)", text).encode("ascii") + b"\n"


def line(trail: Trail) -> dict[str, Field]:
    """One decision as the schema has it: every field in every line, null where there is nothing to say."""
    decision = trail.decision
    if decision is None:
        raise ValueError("a check that nobody decided")
    judged = decision if isinstance(decision, (Allow, Deny)) else None
    surface = surface_of(decision)
    return {
        "version": VERSION,
        "time": datetime.fromtimestamp(trail.time, UTC).isoformat(timespec="microseconds"),
        "decision_id": trail.decision_id,
        "decision": outcome(decision),
        "reason": reason_code(decision),
        "rule": judged.rule if judged is not None else None,
        "location": _location(judged.location if judged is not None else None),
        "nearest_miss": decision.nearest_miss if isinstance(decision, Deny) else None,
        "detail": "" if isinstance(decision, Allow) else decision.detail,
        "policy": trail.policy,
        **_who(trail),
        "surface": surface.name if surface is not None else None,
        "channel": decision.channel if isinstance(decision, Allow) else None,
        "server": trail.server,
        **_what(trail),
        "microseconds": trail.nanoseconds // 1000,
        "shadows": [_shadow(shadow) for shadow in judged.shadows] if judged is not None else [],
    }


def _who(trail: Trail) -> dict[str, Field]:
    user = trail.caller.user if trail.caller is not None else None
    workload = trail.caller.workload if trail.caller is not None else None
    return {
        "user": user.key if user is not None else None,
        "client": user.client if user is not None else None,
        "workload": str(workload) if workload is not None else None,
    }


def _what(trail: Trail) -> dict[str, Field]:
    call = trail.call
    kind = classify(call.method) if call is not None else None
    return {
        "listener": call.listener if call is not None else None,
        "method": call.method if call is not None else None,
        "tool": call.tool if call is not None else None,
        "resource": call.target if call is not None and kind is MethodClass.RESOURCES else None,
        "prompt": call.target if call is not None and kind is MethodClass.PROMPTS else None,
    }


def _location(location: Location | None) -> str | None:
    return str(location) if location is not None else None


def _shadow(shadow: Shadow) -> dict[str, str]:
    return {"id": shadow.id, "location": str(shadow.location), "would": shadow.would}
