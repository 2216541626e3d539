"""What a caller in some business groups may find and read. Scope comes before rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from urllib.parse import quote

from mcpguard import backend
from servers.knowledge.catalogue import Catalogue, Citation, Document
from servers.knowledge.engine import Engine, Filters, Hit, Query
from servers.knowledge.folder import nameable
from servers.knowledge.words import words_of

_SPREAD = 3
"""Passages asked for, a document wanted."""
_MOST = 2000


class Library:
    """The documents, with the engine that ranks them."""

    def __init__(self, catalogue: Catalogue, engine: Engine, base_url: str = "knowledge:///") -> None:
        """Give documents addresses below `base_url`, which ends in a slash."""
        self._catalogue = catalogue
        self._engine = engine
        self._base_url = base_url

    def url(self, path: str) -> str:
        """Where a person reads the document."""
        return self._base_url + quote(path, safe="/")

    def documents(
        self, text: str, groups: Set[str], filters: Filters, limit: int
    ) -> tuple[list[Citation], bool]:
        """Return the best passage of each of the best documents, and whether there are more documents."""
        return self._search(text, groups, filters, limit, each=1)

    def passages(
        self, text: str, groups: Set[str], filters: Filters, limit: int, each: int
    ) -> tuple[list[Citation], bool]:
        """Return the best passages, at most `each` of one document, and whether there are more."""
        return self._search(text, groups, filters, limit, each)

    def fetch(self, path: str, groups: Set[str]) -> Document | None:
        """Return a document; None alike for one that this caller may not see and for one that isn't there."""
        return self._catalogue.document(path, self._visible(groups)) if nameable(path) else None

    def _visible(self, groups: Set[str]) -> tuple[str, ...]:
        return tuple(sorted(key for key, acl in self._catalogue.scopes().items() if acl.admits(groups)))

    def _search(
        self, text: str, groups: Set[str], filters: Filters, limit: int, each: int
    ) -> tuple[list[Citation], bool]:
        words, scopes = words_of(text), self._visible(groups)
        if not words or not scopes or not nameable(filters.folder or ""):
            return [], False
        asked = max(limit, 1) * _SPREAD + 1
        while True:
            with backend(self._engine.name):
                hits = self._engine.search(Query(words, scopes, filters, asked))
            kept = _spread(hits, each)
            # Many passages of few documents: look further down, until there is enough or no more.
            if len(kept) > limit or len(hits) < asked or asked >= _MOST:
                break
            asked = min(asked * 4, _MOST)
        return self._catalogue.citations(kept, scopes)[:limit], len(kept) > limit


def _spread(hits: Iterable[Hit], each: int) -> list[Hit]:
    """Keep at most `each` passages of one document."""
    of: Counter[str] = Counter()
    kept: list[Hit] = []
    for hit in hits:
        of[hit.path] += 1
        if of[hit.path] <= each:
            kept.append(hit)
    return kept
