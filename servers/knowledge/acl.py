"""Who may see a document: business groups, said in the file or in a folder above it.

Every level can only narrow: a caller needs one of the groups at each level that names any. So nobody who
writes a document below a folder can open it wider than the folder is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property

from servers.knowledge.yamltext import YamlRefused, mapping

KEY = "groups"
_MISTAKEN = frozenset({"group", "groups", "acl", "access"})


class AclRefused(Exception):
    """What was written can't be understood, so the document is nobody's."""


@dataclass(frozen=True)
class Acl:
    """A conjunction of levels; at each, one of the groups is enough. Without levels it is everybody's."""

    levels: frozenset[frozenset[str]] = frozenset()

    def admits(self, groups: Set[str]) -> bool:
        """Whether a caller in these business groups may see what has this ACL."""
        return all(not level.isdisjoint(groups) for level in self.levels)

    def narrowed(self, *levels: frozenset[str]) -> Acl:
        """Return this ACL with more levels."""
        return Acl(self.levels.union(levels))

    @cached_property
    def text(self) -> str:
        """The same for the same ACL: JSON, sorted."""
        return json.dumps(sorted(sorted(level) for level in self.levels), ensure_ascii=False)

    @cached_property
    def key(self) -> str:
        """A short name: documents of one key are one scope, with an index of their own."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @classmethod
    def from_text(cls, text: str) -> Acl:
        """Read what `text` gave."""
        return cls(frozenset(frozenset(level) for level in json.loads(text)))


EVERYBODY = Acl()
NOBODY = Acl(frozenset({frozenset()}))


def level_of(values: dict[str, object]) -> frozenset[str] | None:
    """Return the groups that front matter names; None where it names none.

    Raises:
        AclRefused: it is no list of names, or its key is misspelt, which would open the document.

    """
    mistaken = [key for key in values if key != KEY and key.strip().casefold() in _MISTAKEN]
    if mistaken:
        raise AclRefused(f"`{mistaken[0]}` is no key here; say `{KEY}: [name, …]`")
    if KEY not in values:
        return None
    return _names(values[KEY])


def folder_level(text: str) -> frozenset[str]:
    """Return the groups that an `acl.yaml` names.

    Raises:
        AclRefused: it is anything but `groups: [name, …]`.

    """
    try:
        values = mapping(text)
    except YamlRefused as error:
        raise AclRefused(str(error)) from None
    if values is None or values.keys() != {KEY}:
        raise AclRefused(f"an ACL file says `{KEY}: [name, …]` and nothing else")
    return _names(values[KEY])


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise AclRefused(f"`{KEY}` is a list of business groups")
    names: Iterable[object] = value
    good = frozenset(name for name in names if isinstance(name, str) and name.strip() == name != "")
    if len(good) != len(value):
        raise AclRefused(f"`{KEY}` holds something that is no group's name, or one twice")
    return good
