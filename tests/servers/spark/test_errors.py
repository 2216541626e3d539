"""What errors say, in the forms that Spark prints them."""

from __future__ import annotations

import time

import pytest

from servers.spark.errors import exit_code, read, row_named, template
from servers.spark.taskend import error_text

CHAINED = """org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/app/job.py", line 10, in load
    return rates[currency]
           ~~~~~^^^^^^^^^^
KeyError: 'XBT'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/spark/python/lib/pyspark.zip/pyspark/worker.py", line 1247, in main
    process()
  File "/usr/lib/python3.11/site-packages/pandas/core/frame.py", line 9, in apply
    return f(x)
  File "/app/job.py", line 12, in load
    raise acme.errors.RateMissing(
  File "/usr/lib/python3.11/site-packages/acme/errors.py", line 3, in __init__
    super().__init__(text)
acme.errors.RateMissing: no rate for order_id=A-17, currency 'XBT'
second line of it

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:561)
"""

LOST = "ExecutorLostFailure (executor 7 exited caused by one of the running tasks) Reason:"
CAUSED = """org.apache.spark.SparkException: [TASK_WRITE_FAILED] Task failed while writing rows to s3://b/t.
\tat org.apache.spark.sql.errors.QueryExecutionErrors$.taskFailedWhileWritingRowsError(Q.scala:7)
\tat com.acme.etl.Orders$.main(Orders.scala:44)
Caused by: java.lang.RuntimeException: outer
\tat com.acme.etl.Parse.parse(Parse.scala:12)
Caused by: java.lang.NumberFormatException: For input string: "12,5" at row 77
\tat java.base/java.lang.Integer.parseInt(Integer.java:652)
\t... 12 more
"""


def test_the_last_traceback_counts_and_the_users_own_line() -> None:
    error = read(CHAINED)
    assert (error.kind, error.exception) == ("python_exception", "acme.errors.RateMissing")
    assert error.message == "no rate for order_id=A-17, currency 'XBT'\nsecond line of it"
    assert error.row == "order_id=A-17"
    assert error.place is not None
    assert (error.place.file, error.place.line, error.place.function) == ("/app/job.py", 12, "load")


def test_the_innermost_cause_counts_and_the_users_own_frame() -> None:
    error = read(CAUSED)
    assert (error.kind, error.exception) == ("exception", "java.lang.NumberFormatException")
    assert error.message == 'For input string: "12,5" at row 77'
    assert error.row == "row=77"
    assert error.place is not None
    assert (error.place.file, error.place.line) == ("Orders.scala", 44)


@pytest.mark.parametrize(
    ("text", "kind", "exception", "code"),
    [
        (
            "java.lang.OutOfMemoryError: GC overhead limit exceeded\n\tat a.B.c(B.java:1)",
            "out_of_memory",
            "java.lang.OutOfMemoryError",
            None,
        ),
        (
            "org.apache.spark.memory.SparkOutOfMemoryError: Unable to acquire 65536 bytes of memory, got 0",
            "out_of_memory",
            "org.apache.spark.memory.SparkOutOfMemoryError",
            None,
        ),
        (
            f"{LOST} Container killed by YARN for exceeding physical memory limits. 5.5 GB of 5.5 GB used.",
            "out_of_memory",
            "ExecutorLostFailure",
            None,
        ),
        (
            f"{LOST} \nThe executor with id 7 exited with exit code 137(SIGKILL, possible container OOM).",
            "out_of_memory",
            "ExecutorLostFailure",
            None,
        ),
        (f"{LOST} Command exited with code 143", "executor_lost", "ExecutorLostFailure", 143),
        (
            f"{LOST} Executor heartbeat timed out after 130226 ms",
            "executor_lost",
            "ExecutorLostFailure",
            None,
        ),
        (
            "FetchFailed(BlockManagerId(3, host, 7337, None), shuffleId=0, mapIndex=1, message=\n"
            "org.apache.spark.shuffle.FetchFailedException: Connection refused\n)",
            "fetch_failed",
            "FetchFailed",
            None,
        ),
        ("Job 0 cancelled because SparkContext was shut down", "other", "", None),
        (
            "Job aborted due to stage failure: Total size of serialized results of 9 tasks (1.1 GiB) > "
            "spark.driver.maxResultSize (1024.0 MiB)",
            "out_of_memory",
            "",
            None,
        ),
        (
            'Traceback (most recent call last):\n  File "/a.py", line 3, in f\n    x = [0] * n\nMemoryError',
            "out_of_memory",
            "MemoryError",
            None,
        ),
        ("", "other", "", None),
        ("Traceback (most recent call last):", "python_exception", "PythonException", None),
    ],
)
def test_errors_are_told_apart(text: str, kind: str, exception: str, code: int | None) -> None:
    error = read(text)
    assert (error.kind, error.exception) == (kind, exception)
    if code is not None:
        assert error.exit_code == code
    if "137" in text:
        assert error.exit_code in (137, None)


def test_exit_codes_are_found_in_each_wording() -> None:
    assert exit_code("Command exited with code 52") == 52
    assert exit_code("exited with exit code 137(SIGKILL, possible container OOM)") == 137
    assert exit_code("Container exited with a non-zero exit code 143. Error file: prelaunch.err.") == 143
    assert exit_code("Exit status: 134. Diagnostics: Container killed") == 134
    assert exit_code("Executor killed by driver.") is None


@pytest.mark.parametrize(
    ("message", "row"),
    [
        ("bad revenue row id=1337: could not parse", "id=1337"),
        ("timeout=30 for order_key='A 1'", "order_key='A 1'"),
        ("Malformed record 99 in FAILFAST mode", "record=99"),
        ("division by zero", ""),
        ("x=3", ""),
    ],
)
def test_a_row_is_named_only_where_the_message_names_one(message: str, row: str) -> None:
    assert row_named(message) == row


def test_what_changes_from_run_to_run_is_not_in_a_template() -> None:
    one = template("Lost task 1.2 in stage 0.0 (TID 3) at /mnt/a-1/x.parquet, block 0xdeadbeef: 'A'")
    other = template("Lost task 4.0 in stage 7.1 (TID 99) at /srv/b/x.parquet, block 0x12: 'Bob'")
    assert one == other


@pytest.mark.parametrize(
    "text",
    [
        "a." * 40_000,
        "Traceback (most recent call last):\n" + '  File "a", line 1, in b\n' * 20_000,
        "Caused by: " + "x" * 60_000,
        "\n\t" * 60_000,
        "=" * 60_000,
        "id=" * 20_000,
        "exit code " * 10_000,
        "/" * 60_000,
        "Caused by: a\n" * 6_000,
        "a: " + "'" * 60_000,
    ],
)
def test_hostile_text_is_read_in_no_time(text: str) -> None:
    started = time.perf_counter()
    error = read(text)
    assert error.fingerprint
    assert len(error.message) <= 501
    assert time.perf_counter() - started < 1.0


def test_reasons_are_put_in_the_words_of_the_history_server() -> None:
    fetch = {
        "Reason": "FetchFailed",
        "Block Manager Address": {"Executor ID": "3", "Host": "h", "Port": 7337},
        "Shuffle ID": 1,
        "Map ID": 9,
        "Map Index": 2,
        "Reduce ID": 4,
        "Message": "gone",
    }
    assert error_text(fetch) == (
        "FetchFailed(BlockManagerId(3, h, 7337, None), shuffleId=1, mapIndex=2, mapId=9, reduceId=4, "
        "message=\ngone\n)"
    )
    assert error_text({**fetch, "Block Manager Address": None}).startswith("FetchFailed(null, ")
    assert error_text({"Reason": "TaskResultLost"}) == "TaskResultLost (result lost from block manager)"
    old = {
        "Reason": "ExceptionFailure",
        "Class Name": "java.io.IOException",
        "Description": "disk",
        "Stack Trace": [
            {"Declaring Class": "a.B", "Method Name": "c", "File Name": "B.java", "Line Number": 5}
        ],
    }
    assert error_text(old) == "java.io.IOException: disk\n\tat a.B.c(B.java:5)"
    lost = {"Reason": "ExecutorLostFailure", "Executor ID": "1", "Exit Caused By App": True}
    assert error_text(lost) == "ExecutorLostFailure (executor 1 exited caused by one of the running tasks)"
    assert error_text({"Reason": "SomethingNew"}) == "SomethingNew"
