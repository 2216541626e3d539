from __future__ import annotations

import textwrap

import pytest

from servers.airflow.engine import LogLine, Raised
from servers.airflow.loglines import KEPT_LINES, Found, find, same_error, tail


def plain(text: str) -> list[LogLine]:
    return [LogLine(line) for line in textwrap.dedent(text).strip("\n").split("\n")]


def found(text: str) -> Found:
    answer = find(plain(text))
    assert answer is not None
    return answer


def test_a_traceback() -> None:
    why = found("""
        one
        two
        three
        four
        Traceback (most recent call last):
          File "/dags/steps.py", line 90, in <module>
            main()
          File "/dags/steps.py", line 70, in main
            clean(order)
          File "/dags/steps.py", line 45, in clean
            decimal.Decimal(price)
            ~~~~~~~~~~~~~~~^^^^^^^
          File "/venv/lib/python3.11/site-packages/money/parse.py", line 3, in parse
            raise ValueError(text)
        ValueError: n/a
        Command exited with return code 1
        """)
    assert why.error == "ValueError: n/a"
    assert why.place == "/dags/steps.py:45 in clean", "of the task's own code, not of a library"
    assert why.lines == (
        "two",
        "three",
        "four",
        '  File "/dags/steps.py", line 70, in main',
        "    clean(order)",
        '  File "/dags/steps.py", line 45, in clean',
        "    decimal.Decimal(price)",
        '  File "/venv/lib/python3.11/site-packages/money/parse.py", line 3, in parse',
        "    raise ValueError(text)",
        "ValueError: n/a",
        "Command exited with return code 1",
    )


def test_the_last_of_several_tracebacks_counts_with_its_cause() -> None:
    why = found("""
        Traceback (most recent call last):
          File "/dags/a.py", line 1, in warm_up
            x()
        OSError: tried once, went on
        going on
        Traceback (most recent call last):
          File "/dags/a.py", line 2, in load
            y()
        KeyError: 'k'

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/dags/a.py", line 4, in load
            raise RuntimeError("no part") from error
        RuntimeError: no part
        """)
    assert why.error == "RuntimeError: no part; caused by KeyError: 'k'"
    assert why.place == "/dags/a.py:4 in load"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("fine\nERROR: disk full\nbye\nCommand exited with return code 1", "ERROR: disk full"),
        (
            "connecting\npsql: connection refused\nCommand exited with return code 2",
            "psql: connection refused",
        ),
        ("a\nb\nCommand exited with return code 3", "Command exited with return code 3"),
        (
            "an error that was survived\nworking\nTask was killed: it took longer than its timeout of 5 s",
            "Task was killed: it took longer than its timeout of 5 s",
        ),
        ("x\nCommand was killed by SIGKILL", "Command was killed by SIGKILL"),
        ("can't start 'prog': [Errno 2] No such file", "can't start 'prog': [Errno 2] No such file"),
        ("only this", "only this"),
    ],
)
def test_without_a_traceback(text: str, error: str) -> None:
    why = found(text)
    assert why.error == error
    assert why.lines[-1] == text.split("\n")[-1]


def test_nothing_to_find() -> None:
    assert find([]) is None
    assert find([LogLine("::group::Pre Execute", chatter=True), LogLine("  ")]) is None


def test_a_structured_error_counts_before_text() -> None:
    frames = ("/venv/lib/python3.11/site-packages/airflow/x.py:1 in run", "/dags/a.py:9 in load")
    line = LogLine("Task failed with exception", "", "error", (Raised("ValueError", "n/a", frames),))
    why = find([*plain("ERROR: something earlier"), line, *plain("ERROR: something later")])
    assert why == Found(
        "ValueError: n/a",
        "/dags/a.py:9 in load",
        (
            "ERROR: something earlier",
            "ERROR: something later",
            "  at /dags/a.py:9 in load",
            "ValueError: n/a",
        ),
    )


def test_a_long_log_is_not_kept_whole() -> None:
    lines = (LogLine(f"line {n}") for n in range(KEPT_LINES * 3))
    why = find(lines)
    assert why is not None
    assert why.error == f"line {KEPT_LINES * 3 - 1}"


def test_a_long_line_is_cut() -> None:
    why = found("error: " + "x" * 5000)
    assert len(why.error) < 600
    assert why.error.endswith("[4507 characters more]")


@pytest.mark.parametrize(
    ("count", "end", "texts", "first"),
    [
        (2, None, ["d", "e"], 4),
        (9, None, ["a", "b", "c", "d", "e"], 1),
        (2, 4, ["b", "c"], 2),
        (9, 2, ["a"], 1),
        (2, 99, ["d", "e"], 4),
        (2, 1, [], 1),
    ],
)
def test_tail(count: int, end: int | None, texts: list[str], first: int) -> None:
    kept, number, total = tail(plain("a\nb\nc\nd\ne"), count, end)
    assert ([line.text for line in kept], number, total) == (texts, first, 5)


def test_attempts_that_failed_alike() -> None:
    one = Found("KeyError: 17 at 0x7f3a", "/dags/a.py:4 in load")
    assert same_error(one, Found("KeyError: 18 at 0x8c11", "/dags/a.py:4 in load"))
    assert not same_error(one, Found("KeyError: 17 at 0x7f3a", "/dags/a.py:5 in load"))
    assert not same_error(one, Found("TimeoutError", "/dags/a.py:4 in load"))
