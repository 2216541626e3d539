"""Resources whose body is a word: the protocol doesn't look inside."""

from __future__ import annotations

from xds.resource import Kind, Resource, ResourceSet


def made(kind: Kind, name: str, content: str = "1") -> Resource:
    return Resource.of(kind, name, f"{name} {content}".encode())


def target(kind: Kind, **contents: str) -> dict[str, Resource]:
    return {name: made(kind, name, content) for name, content in contents.items()}


def whole(**kinds: dict[str, str]) -> ResourceSet:
    """`whole(cluster={"a": "1"})`: kinds by their label."""
    return ResourceSet.of(
        made(Kind[label.upper()], name, content)
        for label, contents in kinds.items()
        for name, content in contents.items()
    )
