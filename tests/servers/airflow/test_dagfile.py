from __future__ import annotations

import textwrap

import pytest

from servers.airflow.embedded.dagfile import MAX_BYTES, DagFileInvalid, TaskSpec, parse


def problems(text: str, passable: frozenset[str] = frozenset()) -> list[str]:
    with pytest.raises(DagFileInvalid) as caught:
        parse(textwrap.dedent(text), passable)
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def test_every_key() -> None:
    spec = parse(
        textwrap.dedent("""\
            dag_id: all
            description: Everything.
            tags: [a, b]
            every: 1.5h
            max_active_runs: 2
            tasks:
              load:
                command: [python3, load.py, "5"]
                depends_on: [extract]
                timeout: 30s
                retries: 3
                retry_delay: 2m
                env: {MODE: fast}
                pass_env: [TOKEN]
              extract: {command: [ls]}
            """),
        frozenset({"TOKEN"}),
    )
    assert (spec.dag_id, spec.description, spec.tags) == ("all", "Everything.", ("a", "b"))
    assert (spec.every, spec.max_active_runs) == (5400.0, 2)
    assert list(spec.tasks) == ["extract", "load"], "in an order that the dependencies allow"
    assert spec.tasks["load"] == TaskSpec(
        "load", ("python3", "load.py", "5"), ("extract",), 30.0, 3, 120.0, {"MODE": "fast"}, ("TOKEN",)
    )
    assert spec.tasks["extract"] == TaskSpec("extract", ("ls",))


def test_every_problem_at_once_with_its_line() -> None:
    assert problems("""\
        dag_id: x
        descripton: oh
        tasks:
          a:
            comand: [ls]
          b:
            command: ls -l
            retries: many
          c:
            command: [ls]
            depends_on: [aa]
            timeout: 5
        """) == [
        "2: unknown key 'descripton'; did you mean 'description'?",
        "5: unknown key 'comand'; did you mean 'command'?",
        "5: the key 'command' is missing",
        "7: must be a list: [one, two]",
        "7: command must name a program, as a list: [python3, steps.py]",
        "8: must be a whole number from 0 to 10",
        "11: task 'c' depends on 'aa', which is no task; did you mean 'a'?",
        "12: must be a time from 0.1s to 86400s, such as 30s, 5m, 2h or 1d",
    ]


@pytest.mark.parametrize(
    ("tasks", "ring"),
    [
        ("{a: {command: [ls], depends_on: [a]}}", "a -> a"),
        ("{a: {command: [ls], depends_on: [b]}, b: {command: [ls], depends_on: [a]}}", "a -> b -> a"),
    ],
)
def test_rings(tasks: str, ring: str) -> None:
    (problem,) = problems(f"dag_id: x\ntasks: {tasks}\n")
    line, _, message = problem.partition(": ")
    assert line == "2"
    assert message.startswith("tasks depend on each other in a ring: ")
    assert set(message.rpartition(": ")[2].split(" -> ")) == set(ring.split(" -> "))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: the file is empty"),
        ("dag_id: x\n", "1: the key 'tasks' is missing"),
        ("- x\n", "1: must be a mapping of names to values"),
        ("dag_id: x\ntasks: {}\n", "2: a DAG has 1 to 200 tasks"),
        ("dag_id: x\ndag_id: y\ntasks: {a: {command: [ls]}}\n", "2: the key 'dag_id' stands here twice"),
        (
            "dag_id: x\ntasks:\n  a: {command: [ls]}\n  a: {command: [ls]}\n",
            "4: the task 'a' stands here twice",
        ),
        (
            "dag_id: ../x\ntasks: {a: {command: [ls]}}\n",
            "1: '../x' is no id: letters, digits, '_', '-', '.', at most 200",
        ),
        (
            "dag_id: ..\ntasks: {a: {command: [ls]}}\n",
            "1: '..' is no id: letters, digits, '_', '-', '.', at most 200",
        ),
        ("dag_id: x\ntasks: {a: {command: [ls, 5]}}\n", "2: must be text; put it in quotes"),
        (
            "dag_id: x\ntasks: {a: &a {command: [ls]}, b: *a}\n",
            "2: aliases (*name) aren't allowed; write it out",
        ),
        ("a: " * 3, "1: not YAML: mapping values are not allowed here"),
        ("a: " + "[" * 40 + "]" * 40, "1: nested too deeply"),
        ("#" * (MAX_BYTES + 1), "1: the file is larger than 256 KiB"),
        (
            "dag_id: !!python/name:os.system x\ntasks: {a: {command: [ls]}}\n",
            "1: must be text; put it in quotes",
        ),
        (
            "dag_id: x\ntasks: {a: {command: [ls], env: {1A: b}}}\n",
            "2: '1A' is no name of a variable, or stands here twice",
        ),
        (
            "dag_id: x\ntasks: {a: {command: [ls], pass_env: [SECRET]}}\n",
            "2: pass_env names 'SECRET', which the server's --pass-env does not allow",
        ),
    ],
)
def test_refused(text: str, problem: str) -> None:
    assert problem in problems(text)


def test_a_second_document_is_refused() -> None:
    text = "dag_id: x\ntasks: {a: {command: [ls]}}\n---\ndag_id: y\n"
    (problem,) = problems(text)
    assert problem.startswith("3: not YAML:")
