"""What is said of real applications, and of a written one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from servers.spark.diagnosis import diagnose
from servers.spark.errors import Place
from servers.spark.findings import Diagnosis
from servers.spark.folder import FolderEngine
from tests.servers.spark.logs import (
    FILES,
    OOM,
    SKEW,
    SPILLER,
    SUCCESS,
    UDF,
    VECTORS,
    lines_of,
    spilling,
    text_of,
    written,
)


def diagnosed(engine: FolderEngine, key: str) -> Diagnosis:
    run = engine.run(key)
    return diagnose(run, partial(engine.tasks, run))


def from_text(tmp_path: Path, text: bytes, name: str = "some-app") -> tuple[FolderEngine, Diagnosis]:
    (tmp_path / name).write_bytes(text)
    engine = FolderEngine(tmp_path)
    key = engine.applications("", 1).applications[0].key
    return engine, diagnosed(engine, key)


def test_a_udf_failure_is_named_with_its_exception_line_and_row(engine: FolderEngine) -> None:
    found = diagnosed(engine, UDF)
    assert found.verdict == "failed"
    [finding] = found.findings
    assert (finding.kind, finding.severity, finding.stage) == ("python_exception", "failure", 0)
    error = finding.error
    assert error is not None
    assert (error.exception, error.row) == ("ValueError", "id=1337")
    assert error.message == "bad revenue row id=1337: could not parse 'N/A' as int"
    assert error.place is not None
    assert (error.place.file, error.place.line) == ("/srv/spark-demo/scripts/spark_jobs.py", 28)
    assert error.place.function == "parse"
    assert error.place.code.startswith("if x==1337: raise ValueError")
    assert "ValueError at spark_jobs.py:28 in parse, on the row id=1337" in found.summary


def test_skew_is_called_with_its_stage_and_key(engine: FolderEngine) -> None:
    found = diagnosed(engine, SKEW)
    assert found.verdict == "slow"
    [finding] = found.findings
    assert (finding.kind, finding.severity, finding.stage) == ("skew", "warning", 1)
    assert finding.title == "Stage 1 is skewed on k: one task reads 79 times the median."
    evidence = " ".join(finding.evidence)
    assert "median task 138 ms, slowest 3,810 ms" in evidence
    assert "median 2.4 MB, largest 190.9 MB" in evidence
    assert "task 7 on executor driver" in evidence
    assert "Adaptive query execution is off" in evidence
    assert any("spark.sql.adaptive.enabled=true" in one for one in finding.suggestions)


def test_memory_is_called_although_the_failed_tasks_carry_no_metrics(engine: FolderEngine) -> None:
    run = engine.run(OOM)
    failed = engine.tasks(run, run.stages[0], "failed", 50)
    assert [(task.shuffle_read, task.memory_spilled) for task in failed] == [(0, 0)] * 4
    found = diagnosed(engine, OOM)
    assert found.verdict == "failed"
    finding = found.findings[0]
    assert (finding.kind, finding.severity) == ("out_of_memory", "failure")
    assert finding.title == (
        "Executors ran out of memory in stage 0: OutOfMemoryError: Java heap space (exit code 52)"
    )
    assert finding.error is not None
    assert finding.error.exception == "java.lang.OutOfMemoryError"
    evidence = " ".join(finding.evidence)
    assert "exited with code 52 (the JVM ran out of memory): 0, 1, 2" in evidence
    assert "spark.executor.memory is 512m" in evidence
    # One cause, not one for each line of code that happened to allocate last.
    assert [f.kind for f in found.findings] == ["out_of_memory", "garbage_collection"]


def test_a_good_run_has_nothing_wrong(engine: FolderEngine) -> None:
    found = diagnosed(engine, SUCCESS)
    assert (found.verdict, found.findings, found.notes) == ("healthy", (), ())
    assert not engine.run(SUCCESS).incomplete


def test_spill_and_garbage_collection_are_called(engine: FolderEngine) -> None:
    found = diagnosed(engine, SPILLER)
    assert [finding.kind for finding in found.findings] == ["spill", "garbage_collection"]
    assert found.findings[0].title == "Stage 0 did not fit into memory: 1.2 GB went to disk and back."
    assert "35 %" in found.findings[1].title
    assert "from 4 to about 32" in found.findings[0].suggestions[0]
    assert "now 2g" in found.findings[0].suggestions[1]


def test_a_little_spill_is_not_worth_a_word(tmp_path: Path) -> None:
    _, found = from_text(tmp_path, written(spilling(disk_spilled=1_000_000)))
    assert [finding.kind for finding in found.findings] == ["garbage_collection"]


@pytest.mark.parametrize("app", [SUCCESS, UDF, SKEW, OOM])
def test_a_compressed_log_cut_at_two_thirds_is_known_by_its_file(tmp_path: Path, app: str) -> None:
    """A third of the environment and nothing after it: the application has not said yet who it is."""
    whole = (VECTORS / f"{FILES[app]}.zstd").read_bytes()
    (tmp_path / f"{app}.zstd").write_bytes(whole[: len(whole) * 2 // 3])
    engine = FolderEngine(tmp_path)
    [listed] = engine.applications("", 5).applications
    assert (listed.id, listed.completed, listed.spark_version) == (app, False, "4.3.0")
    found = diagnosed(engine, app)
    assert found.verdict == "unknown"
    assert any("middle of an event" in note for note in found.notes)
    assert engine.run(app).incomplete


def test_a_log_cut_after_the_failure_still_names_it(tmp_path: Path) -> None:
    text = text_of(OOM)
    _, found = from_text(tmp_path, text[: len(text) * 9 // 10])
    assert found.findings[0].kind == "out_of_memory"
    assert any("middle of an event" in note for note in found.notes)


@pytest.mark.parametrize("app", [SUCCESS, UDF, SKEW, OOM])
def test_a_log_cut_at_two_thirds_is_read_and_called_incomplete(tmp_path: Path, app: str) -> None:
    text = text_of(app)
    engine, found = from_text(tmp_path, text[: len(text) * 2 // 3])
    run = engine.run(app)
    assert run.incomplete
    assert not run.application.completed
    assert any("end is missing" in note for note in found.notes)
    assert found.verdict == "unknown"  # what went wrong stands in the last third of each


def test_a_failure_is_known_before_its_stage_ends(tmp_path: Path) -> None:
    events = lines_of(UDF)
    ended = next(i for i, e in enumerate(events) if e["Event"] == "SparkListenerStageCompleted")
    _, found = from_text(tmp_path, written(events[:ended]))
    assert found.findings[0].error is not None
    assert found.findings[0].error.row == "id=1337"
    assert any("end is missing" in note for note in found.notes)


def test_executor_loss_alone_is_told_by_its_exit_code(tmp_path: Path) -> None:
    """Without the exceptions, exit code 52 still says memory; another code says only that it was lost."""
    events = [e for e in lines_of(OOM) if e.get("Task End Reason", {}).get("Reason") != "ExceptionFailure"]
    _, found = from_text(tmp_path, written(events))
    assert found.findings[0].kind == "out_of_memory"
    other = written(events).replace(b"exited with code 52", b"exited with code 143")
    _, found = from_text(tmp_path, other)
    assert found.findings[0].kind == "executor_lost"
    assert "preempted" in found.findings[0].title


def test_an_exception_ranks_above_the_loss_of_its_executor(tmp_path: Path) -> None:
    text = written(lines_of(OOM)).replace(b"exited with code 52", b"exited with code 1")
    text = text.replace(b"java.lang.OutOfMemoryError", b"java.lang.IllegalStateException")
    _, found = from_text(tmp_path, text)
    kinds = [finding.kind for finding in found.findings]
    assert kinds[0] == "exception"
    assert "executor_lost" in kinds


def test_what_was_tried_again_with_success_is_a_warning(tmp_path: Path) -> None:
    text = written(lines_of(UDF)).replace(b'"Result":"JobFailed"', b'"Result":"JobSucceeded"')
    text = text.replace(b'"Failure Reason"', b'"Once Was"').replace(b'"errorMessage"', b'"once"')
    _, found = from_text(tmp_path, text)
    assert (found.verdict, found.findings[0].severity) == ("slow", "warning")


def test_a_query_that_fails_on_the_driver_is_reported(tmp_path: Path) -> None:
    events = lines_of(SUCCESS)
    for event in events:
        if event["Event"].endswith("SQLExecutionEnd") and event["executionId"] == 1:
            event["errorMessage"] = "java.util.concurrent.TimeoutException: broadcast took over 300 s"
    _, found = from_text(tmp_path, written(events))
    assert found.verdict == "failed"
    assert "TimeoutException: broadcast took over 300 s" in found.summary


def test_the_same_trouble_has_the_same_fingerprint_in_another_run(
    engine: FolderEngine, tmp_path: Path
) -> None:
    text = written(lines_of(UDF)).replace(b"1337", b"2674").replace(b"/srv/spark-demo", b"/opt/elsewhere")
    _, other = from_text(tmp_path, text)
    assert other.findings[0].fingerprint == diagnosed(engine, UDF).findings[0].fingerprint
    assert other.findings[0].fingerprint.startswith("python-exception-")
    assert other.findings[0].error is not None
    assert isinstance(other.findings[0].error.place, Place)
    assert other.findings[0].fingerprint != diagnosed(engine, OOM).findings[0].fingerprint
