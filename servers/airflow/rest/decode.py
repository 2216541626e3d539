"""Airflow's JSON in, our dataclasses out. What is missing or of another type becomes empty, no error."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Mapping

from servers.airflow.engine import (
    NO_STATUS,
    UNMAPPED,
    Dag,
    ImportFailure,
    LogLine,
    Raised,
    Run,
    TaskInstance,
)
from servers.airflow.rest.client import Json

MAX_LINE = 4096
_MAX_RAISED = 5
_PLACE = re.compile(r'File "[^"]+", line (\d+)')
_OWN_GROUPS = frozenset({"Log message source details", "Pre Execute", "Post Execute"})
"""Groups of lines in which Airflow speaks of its own work. A task may print groups too: those stay."""
_OWN_LOGGERS = ("airflow.dag_processing.",)
_FRAMES = 30


def dag(value: Mapping[str, Json]) -> Dag:
    """Read one of `dags`."""
    return Dag(
        dag_id=_text(value, "dag_id"),
        description=_text(value, "description"),
        schedule=_text(value, "timetable_summary"),
        paused=value.get("is_paused") is True,
        tags=tuple(_text(tag, "name") for tag in objects(value, "tags")),
        file=_text(value, "relative_fileloc"),
        broken=value.get("has_import_errors") is True,
    )


def run(value: Mapping[str, Json]) -> Run:
    """Read one of `dag_runs`."""
    return Run(
        dag_id=_text(value, "dag_id"),
        run_id=_text(value, "dag_run_id"),
        state=_text(value, "state"),
        run_type=_text(value, "run_type"),
        queued=_text(value, "queued_at"),
        started=_text(value, "start_date"),
        ended=_text(value, "end_date"),
        seconds=_number(value, "duration"),
        note=_text(value, "note"),
    )


def task_instance(value: Mapping[str, Json]) -> TaskInstance:
    """Read one of `task_instances`."""
    return TaskInstance(
        task_id=_text(value, "task_id"),
        state=_text(value, "state") or NO_STATUS,
        map_index=_integer(value, "map_index", UNMAPPED),
        try_number=_integer(value, "try_number", 0),
        max_tries=_integer(value, "max_tries", 0),
        started=_text(value, "start_date"),
        ended=_text(value, "end_date"),
        seconds=_number(value, "duration"),
    )


def import_failure(value: Mapping[str, Json]) -> ImportFailure:
    """Read one of `import_errors`. The line is that of the traceback's last frame."""
    trace = _text(value, "stack_trace").strip()
    places = _PLACE.findall(trace)
    return ImportFailure(
        file=_text(value, "filename"),
        line=int(places[-1][:9]) if places else None,
        time=_text(value, "timestamp"),
        message=trace,
    )


def upstream(tasks: Iterable[Mapping[str, Json]]) -> dict[str, frozenset[str]]:
    """Turn the downstream ids of `tasks` around."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        name = _text(task, "task_id")
        found.setdefault(name, set())
        below = task.get("downstream_task_ids")
        for other in below if isinstance(below, list) else []:
            if isinstance(other, str):
                found.setdefault(other, set()).add(name)
    return {name: frozenset(before) for name, before in found.items()}


def log_lines(lines: Iterable[str]) -> Generator[LogLine, None, None]:
    """Read structured messages, one JSON object a line; an event of several lines becomes several."""
    own = False
    for line in lines:
        if not line:
            continue
        message = _message(line)
        event = _text(message, "event")
        begins, ends = event.startswith("::group::"), event.startswith("::endgroup::")
        if begins and event.removeprefix("::group::") in _OWN_GROUPS:
            own = True
        level = _text(message, "level")
        grave = level in ("warning", "error", "critical")
        logger = _text(message, "logger")
        chatter = begins or ends or ((own or logger.startswith(_OWN_LOGGERS)) and not grave)
        yield from _split(message, event, level, chatter=chatter)
        own = own and not ends


def _split(
    message: Mapping[str, Json], event: str, level: str, *, chatter: bool
) -> Generator[LogLine, None, None]:
    code = message.get("exit_code")
    if isinstance(code, int):
        event = f"{event} with code {code}"
    time = _text(message, "timestamp")
    *before, last = event.split("\n")
    for text in before:
        yield LogLine(text[:MAX_LINE], time, level, (), chatter)
    yield LogLine(last[:MAX_LINE], time, level, _raised(message), chatter)


def _message(line: str) -> dict[str, Json]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {"event": line}
    return value if isinstance(value, dict) else {"event": value if isinstance(value, str) else line}


def _raised(message: Mapping[str, Json]) -> tuple[Raised, ...]:
    """Read `error_detail`: the exception that ended the task, and then what caused it."""
    return tuple(
        Raised(
            type=_text(each, "exc_type"),
            message=_text(each, "exc_value")[:MAX_LINE],
            frames=tuple(
                f"{_text(frame, 'filename')}:{_integer(frame, 'lineno', 0)} in {_text(frame, 'name')}"
                for frame in objects(each, "frames")[-_FRAMES:]
            ),
        )
        for each in objects(message, "error_detail")[:_MAX_RAISED]
    )


def objects(value: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    """Return the objects of a list."""
    found = value.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def total(value: Mapping[str, Json], at_least: int) -> int:
    """Return how long a list is."""
    return max(_integer(value, "total_entries", at_least), at_least)


def _text(value: Mapping[str, Json], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _integer(value: Mapping[str, Json], key: str, default: int) -> int:
    found = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def _number(value: Mapping[str, Json], key: str) -> float | None:
    found = value.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
