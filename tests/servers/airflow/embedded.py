"""An embedded engine in a folder of its own, and ways to wait for it without sleeping for long."""

from __future__ import annotations

import json
import os
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from servers.airflow.embedded.engine import EmbeddedEngine
from servers.airflow.engine import Attempt, Engine, Run, TaskInstance

DEADLINE = 20.0
Value = TypeVar("Value")


def until(look: Callable[[], Value | None], what: str, within: float = DEADLINE) -> Value:
    """Return the first value that is there, looking every 10 ms."""
    pause = threading.Event()
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        pause.wait(0.01)
    raise AssertionError(f"{what} did not happen within {within} s")


class World:
    """A DAG folder, a state file, and an engine on them."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root = root
        self.dags = root / "dags"
        self.dags.mkdir(exist_ok=True)
        self.state = root / "state.sqlite"
        self.environment: dict[str, str] = {"PATH": os.environ["PATH"]}
        self._options = options
        self._engine: EmbeddedEngine | None = None

    @property
    def engine(self) -> EmbeddedEngine:
        if self._engine is None:
            self._engine = EmbeddedEngine(
                self.dags,
                self.state,
                environment=self.environment,
                **self._options,  # type: ignore[arg-type]
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def write(self, name: str, text: str) -> Path:
        path = self.dags / f"{name}.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    def script(self, name: str, text: str) -> None:
        (self.dags / name).write_text(textwrap.dedent(text))

    def ended(self, run: Run) -> Run:
        return ended(self.engine, run)

    def states(self, run: Run) -> dict[str, str]:
        return {t.task_id: t.state for t in self.engine.task_instances(run.dag_id, run.run_id).items}

    def task(self, run: Run, task_id: str) -> TaskInstance:
        tasks = self.engine.task_instances(run.dag_id, run.run_id).items
        return next(task for task in tasks if task.task_id == task_id)

    def log(self, run: Run, task_id: str, attempt: int = 1) -> list[str]:
        return [line.text for line in self.engine.log(Attempt(run.dag_id, run.run_id, task_id, attempt))]


def ended(engine: Engine, run: Run, within: float = DEADLINE) -> Run:
    def look() -> Run | None:
        now = engine.run(run.dag_id, run.run_id)
        return now if now.state in ("success", "failed") else None

    return until(look, f"the end of {run.run_id}", within)


def dag(dag_id: str, tasks: Mapping[str, str], head: str = "") -> str:
    """Write a DAG file; each task is a flow mapping's inside."""
    lines = [f"dag_id: {dag_id}", *([head] if head else []), "tasks:"]
    lines += [f"  {name}: {{{inside}}}" for name, inside in tasks.items()]
    return "\n".join(lines) + "\n"


def shell(script: str) -> str:
    """A command that runs a shell script, which is fast to start; the list itself needs no shell."""
    return f"command: [sh, -c, {json.dumps(script)}]"
