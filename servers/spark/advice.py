"""What to say about an error, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from servers.spark.errors import EXIT_KILLED, EXIT_OUT_OF_MEMORY, TaskError
from servers.spark.model import Run, Stage

# https://github.com/apache/spark/blob/master/core/src/main/scala/org/apache/spark/util/SparkExitCode.scala
_EXIT_CODES: Mapping[int, str] = {
    1: "the process gave up",
    50: "an exception that nobody caught",
    51: "an exception that nobody caught, and logging it failed too",
    EXIT_OUT_OF_MEMORY: "the JVM ran out of memory",
    53: "no local directory could be made",
    56: "the driver could not be reached by heartbeat",
    134: "the JVM aborted",
    EXIT_KILLED: "killed, as a container over its memory limit is",
    143: "told to end, as a preempted container is",
}
_MAX_TITLE_MESSAGE = 200


def exit_meaning(code: int) -> str:
    """Say what an executor's exit code means."""
    return _EXIT_CODES.get(code, "unknown to Spark")


def what(error: TaskError) -> str:
    """Say an error in one phrase."""
    message = error.message.partition("\n")[0][:_MAX_TITLE_MESSAGE]
    name = error.exception.rpartition(".")[2] or error.exception
    return f"{name}: {message}" if name and message else name or message or "no reason was given"


def title(error: TaskError, stage: Stage) -> str:
    """Say in one sentence what went wrong."""
    place = ""
    if error.place is not None:
        line = f":{error.place.line}" if error.place.line is not None else ""
        place = f" at {error.place.file.rpartition('/')[2]}{line} in {error.place.function}"
    row = f", on the row {error.row}" if error.row else ""
    if error.kind == "python_exception":
        return f"Python code raised {error.exception}{place}{row}: {error.message[:_MAX_TITLE_MESSAGE]}"
    if error.kind == "out_of_memory":
        code = f" (exit code {error.exit_code})" if error.exit_code is not None else ""
        return f"Executors ran out of memory in stage {stage.id}: {what(error)}{code}"
    if error.kind == "fetch_failed":
        return f"Stage {stage.id} could not fetch shuffle data, whose executor was gone: {what(error)}"
    if error.kind == "executor_lost":
        code = "" if error.exit_code is None else f": {exit_meaning(error.exit_code)}"
        return f"Stage {stage.id} lost executors: {error.message[:_MAX_TITLE_MESSAGE]}{code}"
    return f"Stage {stage.id} failed{place}{row}: {what(error)}"


def suggestions(error: TaskError, run: Run) -> tuple[str, ...]:
    """Say what to do next, the best first."""
    if error.kind == "python_exception":
        return _python(error)
    if error.kind == "out_of_memory":
        return _memory(error, run)
    if error.kind == "fetch_failed":
        return (
            "Find out why the executor went away: missing shuffle data is only the effect of that.",
            "Use an external shuffle service, or decommissioning, where executors are taken away on purpose.",
        )
    if error.kind == "executor_lost":
        return ("Read the lost executor's stderr and its node's events around that time.",)
    return ("Search for earlier root causes with search_root_causes, by this fingerprint or its words.",)


def _python(error: TaskError) -> tuple[str, ...]:
    where = f"line {error.place.line} of {error.place.file}" if error.place is not None else "the UDF"
    row = f"Look at the row {error.row} in the input. " if error.row else ""
    return (
        f"{row}Mend {where}, or make it return null on what it can't parse.",
        "Filter such rows before the UDF, and count them: try_cast and a where clause do both.",
    )


def _memory(error: TaskError, run: Run) -> tuple[str, ...]:
    memory = run.properties.get("spark.executor.memory", "1g, the default")
    if "serialized results" in error.message:
        return ("Don't collect that much to the driver: write it out, or aggregate first.",)
    killed = error.exit_code == EXIT_KILLED or "memory limits" in error.message
    raised = "spark.executor.memoryOverhead" if killed else f"spark.executor.memory (now {memory})"
    return (
        f"Raise {raised}, or lower spark.executor.cores so that fewer tasks share it.",
        "Split the work: more shuffle partitions, and no collect_list or collect_set over large groups.",
        "Look with analyze_skew whether one task holds most of the data.",
    )
