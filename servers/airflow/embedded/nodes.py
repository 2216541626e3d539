"""Read YAML nodes strictly, and remember every complaint with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STRING = "tag:yaml.org,2002:str"
_INTEGER = "tag:yaml.org,2002:int"
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong on which line; lines count from 1."""

    line: int
    message: str


def usable_name(name: str) -> bool:
    """Whether this can be the id of a DAG or a task, in files and in paths: Airflow's rule, in ASCII."""
    return _NAME.fullmatch(name) is not None and name.strip(".") != ""


class Reader:
    """Takes values out of nodes. A value that is wrong becomes a problem, and a harmless one is returned."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def complain(self, node: yaml.Node, message: str, wrong: str = "", known: Iterable[str] = ()) -> None:
        """Note a problem where `node` stands; with a near miss among `known`, name it."""
        near = difflib.get_close_matches(wrong, list(known), 1) if wrong else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        self.problems.append(Problem(node.start_mark.line + 1, message + hint))

    def mapping(
        self, node: yaml.Node, known: frozenset[str], required: tuple[str, ...]
    ) -> dict[str, yaml.Node]:
        """Return the values of the known keys; unknown, repeated and missing ones are problems."""
        found: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node):
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                self.complain(key, f"unknown key {name!r}", name, sorted(known))
            elif name in found:
                self.complain(key, f"the key {name!r} stands here twice")
            else:
                found[name] = value
        for name in required:
            if name not in found and isinstance(node, yaml.MappingNode):
                self.complain(node, f"the key {name!r} is missing")
        return found

    def named(self, node: yaml.Node | None, what: str) -> dict[str, yaml.Node]:
        """Return the values of a mapping whose keys are ids."""
        found: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node):
            name = self.name(key)
            if name in found:
                self.complain(key, f"the {what} {name!r} stands here twice")
            found[name] = value
        return found

    def name(self, node: yaml.Node | None) -> str:
        """Return an id."""
        name = self.text(node)
        if node is not None and not usable_name(name):
            self.complain(node, f"{name[:64]!r} is no id: letters, digits, '_', '-', '.', at most 200")
        return name

    def text(self, node: yaml.Node | None) -> str:
        """Return a string; a number or a truth value must be quoted to be one."""
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
            self.complain(node, "must be text; put it in quotes")
            return ""
        value: str = node.value
        if len(value) > _MAX_TEXT or "\0" in value:
            self.complain(node, f"must be at most {_MAX_TEXT} characters, without NUL")
        return value

    def texts(self, node: yaml.Node | None) -> tuple[str, ...]:
        """Return a list of strings."""
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.complain(node, "must be a list: [one, two]")
            return ()
        return tuple(self.text(item) for item in node.value)

    @staticmethod
    def items(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, str]]:
        """Yield the strings of a list that `texts` has read, with their nodes."""
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                if isinstance(item, yaml.ScalarNode):
                    yield item, item.value

    def environment(self, node: yaml.Node | None) -> dict[str, str]:
        """Return names and values of environment variables."""
        found: dict[str, str] = {}
        for key, value in self._pairs(node):
            name = self.text(key)
            if not _VARIABLE.fullmatch(name) or name in found:
                self.complain(key, f"{name[:64]!r} is no name of a variable, or stands here twice")
            found[name] = self.text(value)
        return found

    def integer(self, node: yaml.Node | None, default: int, low: int, high: int) -> int:
        """Return a whole number in a range."""
        if node is None:
            return default
        plain = isinstance(node, yaml.ScalarNode) and node.tag == _INTEGER
        value = int(node.value) if plain and re.fullmatch(r"[0-9]{1,9}", node.value) else -1
        if not low <= value <= high:
            self.complain(node, f"must be a whole number from {low} to {high}")
            return default
        return value

    def seconds(self, node: yaml.Node | None, default: float | None, low: float, high: float) -> float | None:
        """Return a span of time, written as a number with s, m, h or d."""
        if node is None:
            return default
        match = _SECONDS.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) else None
        value = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if not low <= value <= high:
            self.complain(node, f"must be a time from {low:g}s to {high:g}s, such as 30s, 5m, 2h or 1d")
            return default
        return value

    def _pairs(self, node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, "must be a mapping of names to values")
            return []
        pairs: list[tuple[yaml.Node, yaml.Node]] = node.value
        return pairs
