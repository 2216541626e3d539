"""The server's side of an overwrite: start the writer, check what it staged, let it swap."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers.presto.duckdb_file import DuckDBFile
from servers.presto.duckdb_writer import SWAP, Job
from servers.presto.engine import EngineError, Overwrite, Overwritten

PATIENCE = 3.0
"""Seconds that running queries get to finish before the writer's turn."""
_WRITER = "servers.presto.duckdb_writer"
_UNSURE = (
    "The writer ended before it could say what it did. The table is whole, either with its old rows or with "
    "the new ones: count them with run_query before anything else."
)

_one_at_a_time = threading.Lock()


def overwrite(
    file: DuckDBFile, order: Overwrite, columns: Sequence[str], patience: float = PATIENCE
) -> Overwritten:
    """Replace the target's rows.

    Raises:
        EngineError: the rows are not as expected, or anything went wrong; nothing has changed, or it says so.

    """
    if not _one_at_a_time.acquire(blocking=False):
        raise EngineError("Another table is being overwritten. Call again in some seconds.")
    try:
        sweep(file.path)
        with _writer(order.seconds) as child:
            return _lead(child, file, order, columns, patience)
    finally:
        sweep(file.path)
        _one_at_a_time.release()


def sweep(database: Path) -> None:
    """Remove what a writer that was killed has left; only ever ours, since one server owns the file."""
    for left in database.parent.glob(f".{database.name}.staging-*"):
        left.unlink(missing_ok=True)


def _lead(
    child: subprocess.Popen[str],
    file: DuckDBFile,
    order: Overwrite,
    columns: Sequence[str],
    patience: float,
) -> Overwritten:
    target = order.target
    staging = file.path.with_name(f".{file.path.name}.staging-{secrets.token_hex(8)}")
    job = Job(
        database=str(file.path),
        staging=str(staging),
        catalog=target.catalog,
        schema=target.schema,
        table=target.name,
        columns=tuple(columns),
        sql=order.sql,
        memory_limit=file.memory_limit,
    )
    staged = _ask(child, job.dumps()).get("staged")
    if staged is None:
        raise EngineError("Staging the rows took too long or was ended. Nothing was changed.")
    if not order.least <= staged <= order.most:
        raise EngineError(
            f"The query gives {staged} rows, and {order.least} to {order.most} were expected. Nothing was "
            "changed. Check the query with run_query, or expect another number."
        )
    with file.alone(patience):
        done = _ask(child, SWAP)
        child.wait()
    if "after" not in done:
        raise EngineError(_UNSURE)
    return Overwritten(done["before"], done["after"])


def _ask(child: subprocess.Popen[str], line: str) -> dict[str, int]:
    """Send a line and return the answer, empty where the writer is gone."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stdout is not None  # noqa: S101
    try:
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
    except BrokenPipeError:
        return {}
    answer = child.stdout.readline()
    found: dict[str, int] = json.loads(answer) if answer.endswith("\n") else {}
    if "error" in found:
        raise EngineError(f"{found['error']} The table is as it was.")
    return found


@contextmanager
def _writer(seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Start the writer; it never outlives the block, nor its time."""
    command = [sys.executable, "-m", _WRITER]
    with subprocess.Popen(  # noqa: S603 - no shell, no text of a caller
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        deadline = threading.Timer(seconds, child.kill)
        deadline.daemon = True
        deadline.start()
        try:
            yield child
        finally:
            deadline.cancel()
            child.kill()
