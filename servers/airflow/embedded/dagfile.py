"""One DAG file: YAML in, a `DagSpec` or problems with their lines out. Nothing is run, no file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import yaml

from servers.airflow.embedded.nodes import Problem, Reader

MAX_BYTES = 256 * 1024
MAX_TASKS = 200
MAX_DEPTH = 8

_DAG_KEYS = frozenset({"dag_id", "description", "tags", "every", "max_active_runs", "tasks"})
_TASK_KEYS = frozenset(
    {"command", "depends_on", "timeout", "retries", "retry_delay", "env", "pass_env"},
)
_DAY = 24 * 3600.0


class DagFileInvalid(Exception):
    """A file that is no DAG; `problems` says where and why, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task: a program, and when and how often to run it."""

    task_id: str
    command: tuple[str, ...]
    depends_on: tuple[str, ...] = ()
    timeout: float = 600.0
    """Seconds that one attempt may take."""
    retries: int = 0
    retry_delay: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    """Names of the server's own environment that the task gets too."""


@dataclass(frozen=True, slots=True)
class DagSpec:
    """One DAG as its file declares it; its tasks stand in an order that their dependencies allow."""

    dag_id: str
    tasks: Mapping[str, TaskSpec]
    description: str = ""
    tags: tuple[str, ...] = ()
    every: float | None = None
    """Seconds between the beginnings of two runs."""
    max_active_runs: int = 4

    def upstream(self) -> dict[str, frozenset[str]]:
        """Return what each task directly depends on."""
        return {task.task_id: frozenset(task.depends_on) for task in self.tasks.values()}


def parse(text: str, passable: frozenset[str] | None = frozenset()) -> DagSpec:
    """Read one DAG. `passable` is what `pass_env` may name; None is anything.

    Raises:
        DagFileInvalid: with everything that is wrong, not only the first.

    """
    reader = Reader()
    spec = _dag(reader, _root(text), passable)
    if reader.problems or spec is None:
        raise DagFileInvalid(reader.problems)
    return spec


def _root(text: str) -> yaml.Node:
    if len(text.encode()) > MAX_BYTES:
        raise DagFileInvalid([Problem(1, f"the file is larger than {MAX_BYTES // 1024} KiB")])
    try:
        _refuse_tricks(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DagFileInvalid([Problem(line, f"not YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise DagFileInvalid([Problem(1, f"not YAML: {str(error).splitlines()[0]}")]) from None
    if node is None:
        raise DagFileInvalid([Problem(1, "the file is empty")])
    return node


def _refuse_tricks(text: str) -> None:
    """Refuse aliases, which make a small file a large tree or a ring, and depth that breaks recursion."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise DagFileInvalid([Problem(line, "aliases (*name) aren't allowed; write it out")])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise DagFileInvalid([Problem(line, "nested too deeply")])


def _dag(reader: Reader, root: yaml.Node, passable: frozenset[str] | None) -> DagSpec | None:
    fields = reader.mapping(root, _DAG_KEYS, ("dag_id", "tasks"))
    dag_id = reader.name(fields.get("dag_id"))
    tasks = _tasks(reader, fields.get("tasks"), passable)
    every = reader.seconds(fields.get("every"), None, 1.0, 366 * _DAY)
    spec = DagSpec(
        dag_id=dag_id,
        tasks=tasks,
        description=reader.text(fields.get("description")),
        tags=reader.texts(fields.get("tags")),
        every=every,
        max_active_runs=reader.integer(fields.get("max_active_runs"), 4, 1, 16),
    )
    return spec if not reader.problems else None


def _tasks(reader: Reader, node: yaml.Node | None, passable: frozenset[str] | None) -> dict[str, TaskSpec]:
    nodes = reader.named(node, "task")
    if node is not None and not 0 < len(nodes) <= MAX_TASKS:
        reader.complain(node, f"a DAG has 1 to {MAX_TASKS} tasks")
    specs = {name: _task(reader, name, each, passable) for name, each in nodes.items()}
    for name, each in nodes.items():
        for item, other in reader.items(_value(each, "depends_on")):
            if other not in specs:
                reader.complain(item, f"task {name!r} depends on {other!r}, which is no task", other, specs)
    if node is None or reader.problems:
        return specs
    return _sorted(reader, specs, nodes)


def _task(reader: Reader, name: str, node: yaml.Node, passable: frozenset[str] | None) -> TaskSpec:
    fields = reader.mapping(node, _TASK_KEYS, ("command",))
    command = reader.texts(fields.get("command"))
    if "command" in fields and (not command or not command[0]):
        reader.complain(fields["command"], "command must name a program, as a list: [python3, steps.py]")
    for item, passed in reader.items(fields.get("pass_env")):
        if passable is not None and passed not in passable:
            reader.complain(item, f"pass_env names {passed!r}, which the server's --pass-env does not allow")
    return TaskSpec(
        task_id=name,
        command=command,
        depends_on=reader.texts(fields.get("depends_on")),
        timeout=reader.seconds(fields.get("timeout"), 600.0, 0.1, _DAY) or 600.0,
        retries=reader.integer(fields.get("retries"), 0, 0, 10),
        retry_delay=reader.seconds(fields.get("retry_delay"), 0.0, 0.0, _DAY) or 0.0,
        env=reader.environment(fields.get("env")),
        pass_env=reader.texts(fields.get("pass_env")),
    )


def _value(node: yaml.Node, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _sorted(
    reader: Reader, specs: dict[str, TaskSpec], nodes: Mapping[str, yaml.Node]
) -> dict[str, TaskSpec]:
    try:
        order = TopologicalSorter({name: spec.depends_on for name, spec in specs.items()}).static_order()
        return {name: specs[name] for name in order}
    except CycleError as error:
        ring: list[str] = error.args[1]
        first = min(ring, key=lambda name: nodes[name].start_mark.line)
        reader.complain(nodes[first], f"tasks depend on each other in a ring: {' -> '.join(reversed(ring))}")
        return specs
