"""Why a task did not succeed, in the words that Spark's own UI and History Server have for it.

An event log holds the reason in fields, the History Server as `TaskEndReason.toErrorString` prints it. Put
into those words, both are read by one reader.
"""

from __future__ import annotations

from collections.abc import Mapping

from servers.spark.fields import Fields, number, objects, sub, text

_OTHER_REASONS: Mapping[str, str] = {
    "Resubmitted": "Resubmitted (resubmitted due to lost executor)",
    "TaskResultLost": "TaskResultLost (result lost from block manager)",
    "TaskCommitDenied": "TaskCommitDenied (Driver denied task commit)",
}


def error_text(end: Fields) -> str:
    """Return how Spark prints the reason why a task did not succeed."""
    kind = text(end, "Reason")
    if kind == "ExceptionFailure":
        return text(end, "Full Stack Trace") or _short_exception(end)
    if kind == "ExecutorLostFailure":
        by_task = end.get("Exit Caused By App") is not False
        why = "caused by one of the running tasks" if by_task else "unrelated to the running tasks"
        reason = text(end, "Loss Reason")
        lost = f"ExecutorLostFailure (executor {text(end, 'Executor ID')} exited {why})"
        return f"{lost} Reason: {reason}" if reason else lost
    if kind == "FetchFailed":
        return _fetch_failed(end)
    return _OTHER_REASONS.get(kind, kind)


def _short_exception(end: Fields) -> str:
    """Old logs have the stack as objects only."""
    stack = [
        f"\tat {text(frame, 'Declaring Class')}.{text(frame, 'Method Name')}"
        f"({text(frame, 'File Name')}:{number(frame, 'Line Number')})"
        for frame in objects(end, "Stack Trace")
    ]
    return "\n".join([f"{text(end, 'Class Name')}: {text(end, 'Description')}", *stack])


def _fetch_failed(end: Fields) -> str:
    address = sub(end, "Block Manager Address")
    host = f"{text(address, 'Executor ID')}, {text(address, 'Host')}, {number(address, 'Port')}"
    manager = f"BlockManagerId({host}, None)" if address else "null"
    ids = {"shuffleId": "Shuffle ID", "mapIndex": "Map Index", "mapId": "Map ID", "reduceId": "Reduce ID"}
    where = ", ".join(f"{name}={number(end, key)}" for name, key in ids.items())
    return f"FetchFailed({manager}, {where}, message=\n{text(end, 'Message')}\n)"
