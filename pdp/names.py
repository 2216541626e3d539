"""Names that one file gives and another uses: what is defined where, and what must be known.

Both are read from the plain document, not from its model, so that a file with an unknown key still has its
unknown groups reported in the same run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from identity.principal import JsonValue
from pdp.document import Document, Path
from pdp.model import Location
from pdp.problem import Problem, quoted, suggest

Names = Mapping[str, frozenset[str]]
"""Known names by what they name: `group`, `surface`, `mesh surface`, `issuer`, `server`, `tool`."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one file names. `channels` is by surface, because a channel belongs to those who assert it."""

    names: Names = field(default_factory=lambda: MappingProxyType({}))
    channels: Names = field(default_factory=lambda: MappingProxyType({}))

    def __or__(self, other: Definitions) -> Definitions:
        keys = self.names.keys() | other.names.keys()
        merged = {key: self.names.get(key, frozenset()) | other.names.get(key, frozenset()) for key in keys}
        return Definitions(merged, {**self.channels, **other.channels})


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a name that must be known."""

    kind: str
    name: str
    location: Location
    surfaces: tuple[str, ...] | None = None
    """For a channel: the surfaces that its rule names; None means any."""


# What each place uses. `*` stands for any key or index; the last item may also stand alone, without a list.
_USES: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = MappingProxyType(
    {
        "Organization": (
            ("issuer", ("business_groups", "*", "issuer")),
            ("group", ("guardrails", "*", "deny", "groups", "*")),
            ("surface", ("guardrails", "*", "deny", "surfaces", "*")),
            ("server", ("guardrails", "*", "deny", "servers", "*")),
            ("tool", ("guardrails", "*", "deny", "tools", "*")),
        ),
        "Surfaces": (
            ("issuer", ("surfaces", "*", "issuer")),
            ("trust domain", ("surfaces", "*", "spiffe")),
        ),
        "Server": (
            ("surface", ("access", "*", "surfaces", "*")),
            ("mesh surface", ("access", "*", "services", "*")),
            ("group", ("access", "*", "groups", "*")),
            ("channel", ("access", "*", "channels", "*")),
            ("own tool", ("access", "*", "tools", "*")),
            ("tool policy", ("tools", "*", "policy")),
            ("tool policy", ("tools", "*", "shadow_policy")),
            ("group", ("tools", "*", "approvers", "*")),
            ("group", ("tool_policies", "*", "groups", "*")),
            ("channel", ("tool_policies", "*", "channels", "*")),
        ),
        "Locks": (("server", ("locks", "*", "server")), ("user's issuer", ("locks", "*", "user"))),
    }
)
_OWN = frozenset({"own tool", "tool policy"})


def _kind(value: JsonValue) -> str:
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else ""


def _matches(value: JsonValue, pattern: tuple[str, ...], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text that stands where `pattern` points."""
    if not pattern:
        if isinstance(value, str):
            yield path, value
        return
    step, rest = pattern[0], pattern[1:]
    if step != "*":
        if isinstance(value, dict) and step in value:
            yield from _matches(value[step], rest, (*path, step))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _matches(item, rest, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _matches(item, rest, (*path, index))
    elif not rest and isinstance(value, str):
        yield path, value


def _keys(value: JsonValue, key: str) -> frozenset[str]:
    found = value.get(key) if isinstance(value, dict) else None
    return frozenset(found) if isinstance(found, dict) else frozenset()


def definitions(value: JsonValue) -> Definitions:
    """The names that a document gives, however wrong it may be elsewhere."""
    kind = _kind(value)
    if kind == "Organization":
        issuers = frozenset(name for _, name in _matches(value, ("issuers", "*", "name")))
        domains = frozenset(name for _, name in _matches(value, ("trust_domains", "*")))
        groups = _keys(value, "business_groups")
        return Definitions({"group": groups, "issuer": issuers, "trust domain": domains})
    if kind == "Surfaces":
        return _surfaces(value)
    if kind == "Server":
        tools = _keys(value, "tools")
        return Definitions({"tool": tools, "own tool": tools, "tool policy": _keys(value, "tool_policies")})
    return Definitions()


def _surfaces(value: JsonValue) -> Definitions:
    names = _keys(value, "surfaces")
    mesh = frozenset(str(path[1]) for path, _ in _matches(value, ("surfaces", "*", "spiffe")))
    channels: dict[str, frozenset[str]] = {name: frozenset() for name in names}
    for path, _ in _matches(value, ("surfaces", "*", "channels", "*")):
        if len(path) == 4:
            channels[str(path[1])] |= {str(path[3])}
    return Definitions({"surface": names, "mesh surface": mesh}, channels)


def references(document: Document) -> Iterator[Reference]:
    """The names that a document uses."""
    for kind, pattern in _USES.get(_kind(document.value), ()):
        for path, name in _matches(document.value, pattern):
            if kind == "own tool" and path[-1] == "tools":  # `tools: all`
                continue
            scope = _scope(document.value, path) if kind == "channel" else None
            yield Reference(kind, _part(kind, name), document.at(path), scope)


def _part(kind: str, text: str) -> str:
    """What of a text is the name meant."""
    if kind == "user's issuer":
        return text.partition(":")[0]
    if kind == "trust domain":
        return text.removeprefix("spiffe://").partition("/")[0]
    return text


def _scope(value: JsonValue, path: Path) -> tuple[str, ...] | None:
    """The surfaces of the rule that a channel stands in."""
    if path[0] != "access":
        return None
    rule = ("access", str(path[1]))
    found = [
        name
        for key in ("surfaces", "services")
        for at, name in _matches(value, ("access", "*", key, "*"))
        if (at[0], str(at[1])) == rule
    ]
    return tuple(found) or None


def unknown(uses: Iterable[Reference], known: Definitions, own: Definitions) -> list[Problem]:
    """A problem for each name that neither the file itself nor the others give."""
    problems = []
    for use in uses:
        names = _known(use, known, own)
        if names is None or use.name in names:
            continue
        problems.append(_unknown(use, names, known))
    return problems


def _known(use: Reference, known: Definitions, own: Definitions) -> frozenset[str] | None:
    """Names that would do; None where nothing can be said, because that file can't be read."""
    if use.kind in _OWN:
        return own.names[use.kind]
    if use.kind == "user's issuer":
        return known.names.get("issuer")
    if use.kind != "channel":
        return known.names.get(use.kind)
    if "surface" not in known.names:
        return None
    surfaces = known.channels.keys() if use.surfaces is None else use.surfaces
    return frozenset().union(*(known.channels.get(name, frozenset()) for name in surfaces))


def _unknown(use: Reference, names: frozenset[str], known: Definitions) -> Problem:
    name = quoted(use.name)
    if use.kind == "mesh surface" and use.name in known.names.get("surface", ()):
        message = f"{name} is a surface off the mesh: without a user's token nobody knows that it calls"
        return Problem(use.location, message, "use groups, or give the surface a spiffe id")
    kind = {"own tool": "tool", "mesh surface": "surface"}.get(use.kind, use.kind)
    if use.kind == "channel" and use.surfaces is not None:
        return Problem(
            use.location,
            f"unknown channel {name} of {', '.join(use.surfaces)}",
            suggest(use.name, names),
        )
    return Problem(use.location, f"unknown {kind} {name}", suggest(use.name, names))
